"""What a plan reads off an objective and a configuration, and what it says on the command line."""

from __future__ import annotations

import dataclasses
import json

import pytest

from llm.cli.main import run as llm
from llm.config import resolve
from llm.launch import OURS
from llm.plan import ACCELERATE, DEFAULTS, Machine, compute, plan, stage_of
from llm.plan.memory import GIB
from theory.errors import UserError

A100 = Machine(compute.GPUS["a100"], 4, 80 * GIB, 0.4)
OPT = "facebook/opt-1.3b"


def planned(method: str, machine: Machine = A100, *, length: int | None = None, rows: int | None = None, **given):
    return plan(resolve({"method": method, "max_steps": 100, "data": "x", **given}), machine, model=OPT, length=length, rows=rows)


def test_defaults_are_trls():
    from trl import DPOConfig, ModelConfig

    theirs = {f.name: f.default for config in (DPOConfig, ModelConfig) for f in dataclasses.fields(config)}
    assert {name: theirs[name] for name in DEFAULTS if name != "bf16"} == {n: v for n, v in DEFAULTS.items() if n != "bf16"}
    assert theirs["bf16"] is None  # which TRL makes true unless fp16 is set


def test_stages_are_those_of_the_files():
    from pathlib import Path

    import trl

    files = {path.stem: path for path in (Path(trl.__file__).parent / "accelerate_configs").glob("*.yaml")}
    files |= {path.stem: path for path in OURS.glob("*.yaml")}
    assert {name: stage_of(str(path)) for name, path in files.items()} == ACCELERATE


@pytest.mark.parametrize(
    ("method", "given", "sequences", "reference"),
    [
        ("sft", {}, 1, "none"),
        ("dpo", {}, 2, "precomputed"),
        ("drdo", {}, 2, "none"),
        ("reward", {}, 2, "none"),
        ("p-dpo", {"lambda": 0.0}, 2, "precomputed"),
        ("pmle", {"beta": 0.0}, 2, "none"),
        ("pmle", {"beta": 0.1, "kl": "offline"}, 2, "precomputed"),
        ("pmle", {"beta": 0.1}, 3, "in memory"),
        ("pmle", {"beta": 0.1, "use_peft": True}, 3, "adapters off"),
    ],
)
def test_what_an_objective_needs(method, given, sequences, reference):
    found = planned(method, **given)
    assert found.work.tokens == 100 * found.work.batch * sequences * 1024
    assert found.reference == reference
    assert (found.memories[0].reference > 0) == (reference == "in memory")
    assert (found.work.reference > 0) == (reference != "none")
    assert (found.work.sampling > 0) == (reference in ("in memory", "adapters off"))


def test_a_reward_head_is_one_row():
    assert planned("drdo").reward_head == 2048
    assert planned("drdo").trained == planned("dpo").trained + 2048
    assert planned("drdo").parameters == planned("dpo").parameters == 1_315_758_080


def test_a_reference_in_memory_would_cost_its_weights():
    assert planned("dpo").reference_bytes == 4 * 1_315_758_080
    assert planned("dpo", dtype="bfloat16").reference_bytes == 2 * 1_315_758_080
    assert planned("dpo").memories == {s: dataclasses.replace(m, reference=0.0) for s, m in planned("dpo").memories.items()}


def test_largest_batch_is_the_last_that_fits():
    found = planned("dpo", accelerate_config="zero2")
    at = {
        extra: planned("dpo", accelerate_config="zero2", per_device_train_batch_size=found.largest[2] + extra) for extra in (0, 1)
    }
    assert at[0].fits
    assert not at[1].fits


def test_nothing_fits_a_tiny_gpu():
    found = planned("dpo", dataclasses.replace(A100, memory=4 * GIB))
    assert not any(found.fits_at(stage) for stage in found.memories)
    assert set(found.largest.values()) == {0}


def test_more_gpus_take_fewer_hours():
    one, four = (planned("dpo", dataclasses.replace(A100, gpus=gpus)) for gpus in (1, 4))
    # The batch grows with the GPUs, and the steps are given.
    assert four.work.tokens == 4 * one.work.tokens
    assert four.hours == pytest.approx(one.hours)


def test_a_mean_length_changes_the_work_and_not_the_memory():
    whole, half = planned("dpo"), planned("dpo", length=512)
    assert half.work.tokens == whole.work.tokens / 2
    assert half.memories == whole.memories


def test_the_new_name_of_checkpointing_counts_too():
    new, old = planned("dpo", activation_checkpointing=False), planned("dpo", gradient_checkpointing=False)
    assert new.memories == old.memories != planned("dpo").memories
    assert new.work.recompute == 0


def test_quantised_weights_are_smaller():
    sizes = [
        planned("dpo", use_peft=True, dtype="bfloat16", **given).memories[0].weights for given in ({}, {"quantization": "4bit"})
    ]
    assert sizes[1] < 0.45 * sizes[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"accelerate_config": "zero4"}, "accelerate_config zero4: did you mean zero"),
        ({"max_length": 0}, "max_length 0: must be a whole number above 0"),
        ({"use_peft": True, "lora_r": -1}, "lora_r -1: must be"),
        ({"use_peft": True, "lora_target_modules": ["qkv"]}, "lora_target_modules qkv: is no linear layer of opt"),
    ],
)
def test_a_configuration_of_no_use_is_refused(given, says):
    with pytest.raises(UserError, match=says):
        planned("dpo", **given)


# The command line.


@pytest.fixture
def command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "130")

    def call(*arguments: str):
        code = llm(["plan", *arguments])
        return code, *capsys.readouterr()

    return call


def test_json(command):
    code, out, err = command(
        "drdo/ultrafeedback-opt-1.3b-drdo", "--gpus", "2", "--gpu-memory", "80", "--utilisation", "0.5", "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["parameters"] == 1_315_758_080
    assert found["trained_parameters"] == 1_315_758_080 + 2048
    assert found["model"] == OPT  # which the recipe's SFT run starts from
    assert (found["effective_batch"], found["steps"], found["zero_stage"]) == (64, 1000, 2)
    assert found["tokens"] == 1000 * 64 * 2 * 1024
    assert found["hours"] == pytest.approx(found["model_flops"] / (2 * 312e12 * 0.5) / 3600)
    assert [m["zero_stage"] for m in found["memory_gib"]] == [0, 1, 2, 3]
    parts = ("weights", "gradients", "optimizer", "reference", "activations", "workspace", "reserve")
    for memory in found["memory_gib"]:
        assert sum(memory[part] for part in parts) == pytest.approx(memory["total"])
    assert found["fits"] is True


def test_for_people(command):
    code, out, _ = command("unified/tldr-pythia-2.8b-pmle", "--gpus", "4", "--gpu", "a100-40gb")
    assert code == 0
    assert "40 GiB" in out
    assert "2 *" in out
    assert "335,544,320 parameters" in out
    assert "the policy with its adapters off, to score fresh samples" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("drdo/ultrafeedback-opt-1.3b-drod",), "did you mean drdo/ultrafeedback-opt-1.3b-drdo?"),
        (("ultrafeedback-opt-1.3b-drdo",), "did you mean drdo/ultrafeedback-opt-1.3b-drdo?"),
        (("drdo/ultrafeedback-opt-1.3b-drdo", "--gpu", "a10O"), "--gpu a10O: did you mean a10"),
        (("drdo/ultrafeedback-opt-1.3b-drdo", "--gpus", "0"), "--gpus 0: must be at least 1"),
        (("drdo/ultrafeedback-opt-1.3b-drdo", "--gpu-memory", "0"), "--gpu-memory 0: must be above 0"),
        (("drdo/ultrafeedback-opt-1.3b-drdo", "--utilisation", "1.5"), "--utilisation 1.5: must lie in (0, 1]"),
        (("drdo/ultrafeedback-opt-1.3b-drdo", "--length", "0"), "--length 0: must be at least 1"),
        (("drdo/tldr-hc-he-phi-3-mini-oracle",), "--rows: the run is counted in epochs"),
    ],
)
def test_bad_input_is_one_line(command, arguments, says):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err

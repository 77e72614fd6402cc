"""What `llm recipes check` finds, and the commands around it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm import recipes
from llm.cli.main import run as llm
from llm.recipes.check import problems
from tests.llm.recipes.tables import RUNS
from theory.errors import UserError

SOUND = {
    "method": "drdo",
    "model_name_or_path": "facebook/opt-1.3b",
    "data": "x.jsonl",
    "output_dir": "out",
    "scores": ["s.parquet"],
}


def written(folder, **changed) -> str:
    path = folder / "run.yaml"
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in {**SOUND, **changed}.items() if value is not None))
    return str(path)


def found(folder, **changed) -> list[str]:
    return [str(error) for error in problems(written(folder, **changed))]


def test_every_run_of_the_tables_has_a_recipe():
    assert set(recipes.names()) == set(RUNS)
    assert [name for paper in ("distillation", "drdo", "unified") for name in recipes.names(paper)] == recipes.names()


def test_a_sound_file(tmp_path):
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"learning_rat": 1e-5}, "did you mean learning_rate?"),
        ({"gama_f": 2}, "did you mean gamma_f?"),
        ({"lambda": 0.1}, "is no key"),  # e-DPO's, not DRDO's
        ({"gamma_f": -1}, "--gamma-f -1: must lie in [0, inf)"),
        ({"alpha": "big"}, "alpha big: must be a number"),
        ({"per_device_train_batch_size": "many"}, "must be of type int"),
        ({"bf16": "perhaps"}, "bf16"),
        ({"method": "drod"}, "did you mean drdo?"),
        ({"method": None}, "name an objective"),
        ({"objective": "mine.py:loss"}, "name an objective"),
        ({"model_name_or_path": None}, "model_name_or_path: is missing"),
        ({"data": None}, "data: is missing"),
        ({"output_dir": None}, "output_dir: is missing"),
        ({"scores": None}, "scores: drdo needs rewards"),
        ({"optim": "adamm"}, "adamm"),
        ({"lr_scheduler_type": "cosinus"}, "cosinus"),
        ({"logp": "max"}, "--logp max"),
        ({"accelerate_config": "zero5"}, "accelerate_config zero5: did you mean zero"),
        ({"use_peft": True, "lora_target_modules": ["query"]}, "lora_target_modules query: is no linear layer of opt"),
        ({"adapter": "tldr"}, "--adapter tldr"),
    ],
)
def test_one_fault_is_one_line_that_names_it(tmp_path, changed, says):
    (error,) = found(tmp_path, **changed)
    assert says in error
    assert "\n" not in error


def test_all_faults_are_said_at_once(tmp_path):
    errors = found(tmp_path, learning_rat=1, gamma_f=-1, data=None)
    assert len(errors) == 3


def test_a_key_twice_is_an_error(tmp_path):
    path = Path(written(tmp_path))
    path.write_text(path.read_text() + "\nseed: 1\nseed: 2\n")
    assert [str(e) for e in problems(str(path))] == ["seed: stands twice"]


@pytest.mark.parametrize("text", ["- a\n", "a: [", "a\n", "1: 2\n", ""])
def test_what_is_no_flat_mapping_is_refused(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    (error,) = problems(str(path))
    assert str(path) in str(error)


def test_trl_checks_contradictions(tmp_path):
    (error,) = found(tmp_path, bf16=True, fp16=True)
    assert "DPOConfig" in error


def test_a_base_model_is_found_through_the_recipes():
    assert recipes.base_model({"model_name_or_path": "runs/unified/tldr-pythia-6.9b-sft"}) == "EleutherAI/pythia-6.9b-deduped"
    assert recipes.base_model({"model_name_or_path": "runs/of/mine"}) == "runs/of/mine"
    with pytest.raises(UserError, match="model_name_or_path"):
        recipes.base_model({})


def test_a_recipe_is_called_by_name_or_path():
    name = "drdo/ultrafeedback-opt-125m-drdo"
    path = recipes.path_of(name)
    assert recipes.path_of(f"{name}.yaml") == recipes.path_of(str(path)) == path
    assert recipes.load(str(path)).name == name


# The command line.


@pytest.fixture
def command(capsys):
    def call(*arguments: str):
        code = llm(["recipes", *arguments])
        return code, *capsys.readouterr()

    return call


def test_list(command):
    code, out, _ = command("list", "--json")
    records = json.loads(out)
    assert code == 0
    assert {r["recipe"]: r["method"] for r in records} == {name: row["method"] for name, row in RUNS.items()}
    assert all(r["about"] and r["source"] for r in records)
    code, out, _ = command("list", "--paper", "drdo")
    assert code == 0
    assert "drdo/tldr-hc-he-phi-3-mini-drdo" in out
    assert "unified" not in out


def test_show_prints_the_file_itself(command):
    name = "unified/tldr-pythia-2.8b-dpo"
    assert command("show", name) == (0, recipes.path_of(name).read_text(), "")


def test_check_of_files(command, tmp_path):
    assert command("check", written(tmp_path)) == (0, "1 of 1 configurations are sound\n", "")
    code, out, err = command("check", written(tmp_path, learning_rat=1))
    assert code == 2
    assert out == "0 of 1 configurations are sound\n"
    assert err.startswith("error: ")
    assert "learning_rate" in err
    code, out, _ = command("check", written(tmp_path, learning_rat=1), "--json")
    assert code == 2
    assert len(json.loads(out)[0]["problems"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "drdo/ultrafeedback-opt-1.3b-drod"), "did you mean drdo/ultrafeedback-opt-1.3b-drdo?"),
        (("show", "tldr-pythia-2.8b-pmle"), "did you mean unified/tldr-pythia-2.8b-pmle?"),
        (("list", "--paper", "drod"), "--paper drod: did you mean drdo?"),
        (("check", "nowhere.yaml"), "nowhere"),
    ],
)
def test_bad_input_is_one_line(command, arguments, says):
    code, _, err = command(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err

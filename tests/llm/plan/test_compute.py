"""FLOPs against PyTorch's own counter, steps against a loop, GPUs against their data sheets."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llm.plan import DEFAULTS
from llm.plan.compute import GPUS, ROWS, Passes, gpu_called, rows_of, steps_of, work
from llm.plan.shapes import FAMILIES, shape_of
from tests.llm.plan.meta import SMALL, build
from theory.errors import UserError

LENGTH = 48
# torch's counter also counts the product that makes the rotary angles, once a model.
ROTARY = 1e-3


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    """A local folder with a config.json of each family."""
    (tmp_path / "config.json").write_text(json.dumps(SMALL[request.param]))
    return str(tmp_path), SMALL[request.param]


def counted(model) -> tuple[int, int]:
    """FLOPs of one sequence, forward and backward, counted operation by operation."""
    with FlopCounterMode(display=False) as forward:
        loss = model(torch.zeros(1, LENGTH, dtype=torch.long), use_cache=False).logits.sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


def planned(shape, trained: int = 0, **passes):
    values = {**DEFAULTS, "per_device_train_batch_size": 1}
    return work(
        shape,
        values,
        Passes(**{"sequences": 1, "samples": 0, "scored": 0, **passes}),
        length=LENGTH,
        gpus=1,
        trained=trained,
        steps=1,
    )


def test_flops_are_those_that_pytorch_counts(folder):
    path, fact = folder
    forward, backward = counted(build(fact, device="cpu", attn_implementation="eager"))
    found = planned(shape_of(path))
    assert found.forward + found.attention / 3 == pytest.approx(forward, rel=ROTARY)
    assert found.backward + 2 * found.attention / 3 == pytest.approx(backward, rel=ROTARY)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks transformers
def test_lora_saves_the_weights_gradients(folder):
    from peft import LoraConfig, get_peft_model

    path, fact = folder
    model = build(fact, device="cpu", attn_implementation="eager")
    peft = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    peft.enable_input_require_grads()  # as with checkpointing, when the first block's input needs a gradient
    forward, backward = counted(peft)
    found = planned(shape_of(path), trained=shape_of(path).adapters(8, ["all-linear"]))
    assert found.forward + found.attention / 3 == pytest.approx(forward, rel=ROTARY)
    assert found.backward + 2 * found.attention / 3 == pytest.approx(backward, rel=ROTARY)


def test_model_flops_are_six_n_a_token():
    """Kaplan et al. 2020: 6·N, and PaLM's 12·L·H·Q·T for attention."""
    shape = shape_of("facebook/opt-1.3b")
    found = planned(shape)
    assert found.model_flops == LENGTH * (6 * shape.multiplied + 12 * shape.layers * shape.hidden * LENGTH)
    assert found.recompute == pytest.approx(found.model_flops / 3)


def test_passes_add_up():
    shape = shape_of("facebook/opt-1.3b")
    one = planned(shape)
    pair = planned(shape, sequences=2)
    assert (pair.tokens, pair.forward) == (2 * one.tokens, 2 * one.forward)
    fresh = planned(shape, sequences=2, samples=1)
    assert fresh.tokens == 3 * one.tokens
    # Drawing a sample and scoring it with the reference take a forward pass each.
    assert fresh.sampling == fresh.reference == pytest.approx(one.forward + one.attention / 3)
    # Over four epochs the reference passes once over the data.
    assert planned(shape, sequences=2, scored=2, epochs=4.0).reference == pytest.approx((pair.forward + pair.attention / 3) / 4)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize(("gpus", "batch", "accumulation"), [(1, 8, 1), (4, 4, 4), (2, 8, 4)])
def test_steps_are_those_of_a_loop(rows, gpus, batch, accumulation):
    values = {
        **DEFAULTS,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 2,
    }
    steps = 0
    for _ in range(2):
        pending, left = 0, rows
        while left > 0:
            left -= batch * gpus
            pending += 1
            if pending == accumulation or left <= 0:
                steps, pending = steps + 1, 0
    assert steps_of({**values, "data": "x"}, gpus, rows) == steps


def test_max_steps_win():
    assert steps_of({**DEFAULTS, "max_steps": 7, "data": "x"}, 1, None) == 7


def test_unknown_rows_are_asked_for():
    with pytest.raises(UserError, match="the rows of x.jsonl are not known: give their number".replace(".", r"\.")):
        steps_of({**DEFAULTS, "data": "x.jsonl"}, 1, None)


def test_rows_of_a_local_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": list("abc")}), tmp_path / "train.parquet")
    assert rows_of(str(tmp_path)) == rows_of(str(tmp_path / "train.parquet")) == 3
    (tmp_path / "broken.parquet").write_bytes(b"no")
    assert rows_of(str(tmp_path / "broken.parquet")) is None
    assert rows_of("argilla/ultrafeedback-binarized-preferences-cleaned") == 60_917


def test_rows_are_those_the_papers_print():
    """Unified Table 4 (117K, 92.9K) and drdo §B.1 (61.1K)."""
    assert round(ROWS["CarperAI/openai_summarize_tldr"], -3) == 117_000
    assert round(ROWS["openai/summarize_from_feedback"], -2) == 92_900


def test_hours_are_flops_over_speed():
    found = planned(shape_of("facebook/opt-1.3b"))
    assert GPUS["a100"].tflops == 312
    assert found.hours(GPUS["a100"], 4, 0.5) == pytest.approx(found.model_flops / (4 * 312e12 * 0.5) / 3600)


def test_an_unknown_gpu_names_the_nearest():
    with pytest.raises(UserError, match="--gpu a-100: did you mean a100"):
        gpu_called("a-100")

"""Tokens, FLOPs and hours of a run, from a shape and a configuration alone.

Sources: 6·N FLOPs a token of training, 2·N of a forward pass, Kaplan et al. 2020 (§2.1); attention's
12·L·H·Q·T and model-FLOPs utilisation, Chowdhery et al. 2022 (*PaLM*, App. B), which leaves
recomputation out of the model's FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm.plan.shapes import Shape
from theory.errors import UserError, nearest


@dataclass(frozen=True)
class Gpu:
    """Dense bf16 peak in TFLOP/s (V100: fp16) and memory in GiB, as in NVIDIA's data sheets."""

    tflops: float
    memory: float


GPUS = {
    "a100": Gpu(312.0, 80),
    "a100-40gb": Gpu(312.0, 40),
    "h100": Gpu(989.4, 80),
    "h100-pcie": Gpu(756.0, 80),
    "h200": Gpu(989.4, 141),
    "l40": Gpu(181.05, 48),
    "l40s": Gpu(362.05, 48),
    "a6000": Gpu(154.8, 48),
    "a10": Gpu(125.0, 24),
    "v100": Gpu(125.0, 32),
}

# Training rows of the public sets, by hub id (unified Table 4 and drdo §B.1 print the same, rounded).
ROWS = {
    "openai/summarize_from_feedback": 92_858,
    "CarperAI/openai_summarize_tldr": 116_722,
    "argilla/ultrafeedback-binarized-preferences-cleaned": 60_917,
    "HuggingFaceH4/ultrafeedback_binarized": 61_135,
}


@dataclass(frozen=True)
class Work:
    """What one run computes.

    Attributes:
        batch: pairs (or examples) of one step, over all GPUs.
        steps: optimiser steps.
        tokens: tokens that are trained on, prompts and fresh samples included.
        forward, backward: FLOPs of the policy's passes.
        attention: FLOPs of attention's scores and sums in both.
        reference: FLOPs of the reference's passes: on fresh samples, or once over the data beforehand.
        sampling: FLOPs of drawing the fresh samples.
        recompute: FLOPs that checkpointing repeats; no part of the model's FLOPs.
    """

    batch: int
    steps: int
    tokens: int
    forward: float
    backward: float
    attention: float
    reference: float
    sampling: float
    recompute: float

    @property
    def model_flops(self) -> float:
        """FLOPs that the mathematics needs."""
        return self.forward + self.backward + self.attention + self.reference + self.sampling

    @property
    def hardware_flops(self) -> float:
        """FLOPs that the GPUs do."""
        return self.model_flops + self.recompute

    def hours(self, gpu: Gpu, gpus: int, utilisation: float) -> float:
        """Hours at this share of the GPUs' peak, counted in the model's FLOPs."""
        return self.model_flops / (gpus * gpu.tflops * 1e12 * utilisation) / 3600


def gpu_called(name: str) -> Gpu:
    """A GPU's facts; raises `UserError`."""
    if name not in GPUS:
        raise UserError("--gpu", name, nearest(name, GPUS))
    return GPUS[name]


def batch_of(values: Mapping[str, Any], gpus: int) -> int:
    """Pairs of one optimiser step over all GPUs."""
    return int(values["per_device_train_batch_size"] * values["gradient_accumulation_steps"] * gpus)


def rows_of(data: str) -> int | None:
    """Training rows of a known public set or of a local Parquet file or folder; None if they are not known."""
    if data in ROWS:
        return ROWS[data]
    path = Path(data)
    files = [path] if path.is_file() else [path / "train.parquet"]
    if not all(file.suffix == ".parquet" and file.is_file() for file in files):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return sum(pq.read_metadata(file).num_rows for file in files)
    except (OSError, pa.ArrowException):
        return None


def steps_of(values: Mapping[str, Any], gpus: int, rows: int | None) -> int:
    """Optimiser steps as transformers counts them; raises `UserError` when the number of rows is needed and unknown."""
    if values["max_steps"] > 0:
        return int(values["max_steps"])
    rows = rows if rows is not None else rows_of(str(values["data"]))
    if rows is None:
        remedy = f"the run is counted in epochs and the rows of {values.get('data')} are not known: give their number"
        raise UserError("--rows", None, remedy)
    batches = math.ceil(rows / (values["per_device_train_batch_size"] * gpus))
    accumulation = values["gradient_accumulation_steps"]
    return math.ceil(values["num_train_epochs"] * max(1, math.ceil(batches / accumulation)))


@dataclass(frozen=True)
class Passes:
    """The passes of one example.

    Attributes:
        sequences: sequences of the example that are trained on: two a pair.
        samples: fresh samples to train on and to score with the reference.
        scored: sequences that the reference scores once, beforehand.
        epochs: times the data are gone through, over which that one pass is spread.
    """

    sequences: int
    samples: int
    scored: int
    epochs: float = 1.0


def work(shape: Shape, values: Mapping[str, Any], passes: Passes, *, length: int, gpus: int, trained: int, steps: int) -> Work:
    """The FLOPs of a run.

    With N the weights that a token is multiplied with, T tokens and P adapter parameters: forward 2·N·T;
    backward 4·N·T, or under LoRA 2·N·T for the activations' gradients and 4·P·T for the adapters'
    (whose forward adds 2·P·T); attention 4·L·(heads·width)·length a token forward and twice that backward.

    Args:
        length: tokens of a sequence, prompt and response.
        trained: trainable parameters if they are adapters, else 0.
    """
    examples = steps * batch_of(values, gpus)
    tokens = float(examples * (passes.sequences + passes.samples) * length)
    drawn = float(examples * passes.samples * length)
    scored = drawn + examples / max(1.0, passes.epochs) * passes.scored * length
    one = 2.0 * shape.multiplied
    per_token = 4.0 * shape.layers * shape.hidden * length
    adapters = 2.0 * trained
    return Work(
        batch=batch_of(values, gpus),
        steps=steps,
        tokens=int(tokens),
        forward=tokens * (one + adapters),
        backward=tokens * (one + 2 * adapters if trained else 2 * one),
        attention=tokens * 3 * per_token,
        reference=scored * (one + per_token),
        sampling=drawn * (one + per_token),
        recompute=tokens * (one + adapters + per_token) if values["gradient_checkpointing"] else 0.0,
    )

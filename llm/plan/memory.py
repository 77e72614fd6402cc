"""Memory of one GPU while it trains, from a shape and a configuration alone.

Sources: the states of mixed-precision Adam and their partition by ZeRO stage, Rajbhandari et al. 2020
(*ZeRO*, §3.1 and §5: 2Ψ + 2Ψ + KΨ bytes, K = 12); activations with and without checkpointing,
Korthikanti et al. 2022 (*Reducing activation recomputation*, §4–5); bits of a quantised weight,
Dettmers et al. 2023 (*QLoRA*, §3); the fused LM head's tile, TRL 1.16's ``kernels/chunked_logprob.py``.
All numbers are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from llm.plan.shapes import Shape

GIB = 2**30
STAGES = (0, 1, 2, 3)
# CUDA context, NCCL, DeepSpeed's buckets and what the allocator cannot use: our allowance, no fact.
RESERVE = 2.0 * GIB
# Two moments of a trainable parameter in float32; other optimisers by a part of their name.
MOMENTS = {"8bit": 2.0, "4bit": 1.0, "sgd": 0.0, "adafactor": 0.0, "lion": 4.0}
ADAM = 8.0
# TRL's fused head computes logits in tiles of this many tokens by this much vocabulary.
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768


@dataclass(frozen=True)
class Precision:
    """Bytes per parameter (of the policy; of a frozen one), and per element of an activation."""

    weight: float
    gradient: float
    optimizer: float
    frozen: float
    activation: float


@dataclass(frozen=True)
class Load:
    """What a GPU holds, whatever the ZeRO stage.

    Attributes:
        shape: of the policy.
        trained: trainable parameters of the policy: all, or the adapters; with the reward head.
        whole: full fine-tuning, so that nothing is frozen.
        reference: parameters of a reference model held in memory, 0 if none is.
        sequences: sequences in memory at once: two a pair, one more a pair with fresh samples.
        length: tokens of a sequence, prompt and response.
        gpus: the GPUs that ZeRO shares over.
    """

    shape: Shape
    trained: int
    whole: bool
    reference: int
    sequences: int
    length: int
    gpus: int

    @property
    def tokens(self) -> int:
        """Tokens in memory at once."""
        return self.sequences * self.length


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU at the peak of a step.

    Attributes:
        weights: trained and frozen weights as they are multiplied.
        gradients: of the trained weights.
        optimizer: its moments, and under mixed precision the float32 copy that it updates.
        reference: a frozen copy of the policy, if one is held.
        activations: what the backward pass needs.
        workspace: of the LM head, and at stage 3 the layer that is gathered.
        reserve: `RESERVE`.
    """

    weights: float
    gradients: float
    optimizer: float
    reference: float
    activations: float
    workspace: float
    reserve: float = RESERVE

    @property
    def total(self) -> float:
        """The sum."""
        return sum(getattr(self, field.name) for field in fields(self))


def precision(values: Mapping[str, Any], stage: int) -> Precision:
    """What a configuration stores at a ZeRO stage (stage 0 is plain data parallelism).

    Under DeepSpeed's bf16 (stages 1–3) weights and gradients take 2 bytes and the optimiser holds the
    float32 weights. Without it, autocast keeps float32 weights and casts copies of them; weights
    loaded in 16 bits stay so, with PyTorch's moments in 16 bits too.
    """
    moments = next((size for part, size in MOMENTS.items() if part in str(values["optim"])), ADAM)
    mixed = bool(values["bf16"] or values.get("fp16"))
    half = _loaded(values) == 2
    if mixed and stage > 0:
        return Precision(2, 2, 4 + moments, 2, 2)
    if half:
        return Precision(2, 2, moments / 2 if str(values["optim"]).startswith("adamw_torch") else moments, 2, 2)
    if mixed:
        return Precision(6, 4, moments, 6, 2)
    return Precision(4, 4, moments, 4, 4)


def memory(load: Load, values: Mapping[str, Any], stage: int) -> Memory:
    """Bytes per GPU at a ZeRO stage.

    Stage 1 shares the optimiser over the GPUs, stage 2 the gradients too, stage 3 the weights too.
    """
    size, shape = precision(values, stage), load.shape
    # PEFT keeps adapters, gradients and moments in float32 unless DeepSpeed casts them.
    own = size if load.whole or stage > 0 else Precision(4, 4, ADAM, size.frozen, size.activation)
    weights = load.trained * own.weight
    if not load.whole:
        weights += _frozen(shape, values, size.frozen)
    share = {part: load.gpus if stage >= first else 1 for part, first in {"optimizer": 1, "gradients": 2, "weights": 3}.items()}
    # The layer that is multiplied, and the next one on its way.
    gathered = 2.0 * size.weight * max(shape.block_parameters, shape.table) if stage == 3 and load.gpus > 1 else 0.0
    return Memory(
        weights=weights / share["weights"],
        gradients=load.trained * own.gradient / share["gradients"],
        optimizer=load.trained * own.optimizer / share["optimizer"],
        reference=reference(load.reference, load.gpus, values, stage),
        activations=activations(load, values, size.activation),
        workspace=fused_head(shape, load.tokens, size.activation, trained=load.whole) + gathered,
    )


def reference(parameters: int, gpus: int, values: Mapping[str, Any], stage: int) -> float:
    """Bytes of a reference held in memory: a whole copy on each GPU, but at stage 3 shared as TRL does."""
    return parameters * min(_loaded(values), precision(values, stage).frozen) / (gpus if stage == 3 else 1)


def _loaded(values: Mapping[str, Any]) -> float:
    """Bytes of a weight as ``dtype`` loads it."""
    return 2.0 if values["dtype"] in ("bfloat16", "float16") else 4.0


def activations(load: Load, values: Mapping[str, Any], element: float) -> float:
    """Bytes kept for the backward pass.

    Every block keeps ``shape.kept`` elements a token; with checkpointing only its input, and one block
    at a time the rest. Eager attention adds the two T×T tables of a head, scores and probabilities.
    """
    shape = load.shape
    kept = shape.kept * element
    if values.get("attn_implementation") == "eager":
        kept += 2 * shape.heads * load.length * element
    if values["gradient_checkpointing"]:
        return load.tokens * (shape.layers * shape.hidden * element + kept)
    return load.tokens * shape.layers * kept


def fused_head(shape: Shape, tokens: int, element: float, *, trained: bool) -> float:
    """Workspace of TRL's fused LM head: a tile of logits and the float32 gradients of states and head."""
    tile = min(tokens, TILE_TOKENS) * min(shape.vocab, TILE_VOCABULARY) * element
    return tile + 4.0 * tokens * shape.embedding + 4.0 * shape.table * trained


def whole_head(shape: Shape, tokens: int, element: float) -> float:
    """What an LM head that is not fused needs: all logits, their float32 log-softmax and its gradient."""
    return tokens * shape.vocab * (element + 4.0 + 4.0)


def _frozen(shape: Shape, values: Mapping[str, Any], size: float) -> float:
    """Bytes of the frozen weights under LoRA; quantisation spares embeddings, norms and the LM head."""
    if values.get("load_in_4bit"):
        # One float32 scale for 64 weights, or with double quantisation one of 8 bits and 1/256 of a float32.
        scale = (1 + 4 / 256) / 64 if values.get("use_bnb_nested_quant") else 4 / 64
        return shape.linear_weights * (0.5 + scale) + (shape.parameters - shape.linear_weights) * size
    if values.get("load_in_8bit"):
        return shape.linear_weights + (shape.parameters - shape.linear_weights) * size
    return shape.parameters * size

"""The shapes of the papers' model families, as facts, and what can be counted from a shape.

A fact is what the model's public ``config.json`` says, under its own keys, so that a local model of
the same families is read by the same functions, and a test builds each fact's model with
transformers (on the meta device) and counts its parameters one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theory.errors import UserError, nearest

Fact = Mapping[str, Any]


def _neox(hidden: int, layers: int, vocab: int) -> Fact:
    return {
        "model_type": "gpt_neox",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "intermediate_size": 4 * hidden,
        "vocab_size": vocab,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    }


def _opt(hidden: int, layers: int, heads: int, *, embedding: int | None = None) -> Fact:
    return {
        "model_type": "opt",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "ffn_dim": 4 * hidden,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        # 350M alone embeds in 512 dimensions, projects in and out, and norms after its blocks.
        "word_embed_proj_dim": embedding or hidden,
        "do_layer_norm_before": embedding is None,
        "tie_word_embeddings": True,
    }


def _rms(family: str, hidden: int, kv_heads: int, width: int, vocab: int, positions: int) -> Fact:
    return {
        "model_type": family,
        "hidden_size": hidden,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": kv_heads,
        "intermediate_size": width,
        "vocab_size": vocab,
        "max_position_embeddings": positions,
        "tie_word_embeddings": False,
    }


# The models of the three papers' runs (unified D.2–D.3; drdo §5). Parameters in public counts:
# 2,775,208,960; 6,857,302,016; 8,030,261,248; 125,239,296; 331,196,416; 1,315,758,080; 2,651,596,800; 3,821,079,552.
FACTS: dict[str, Fact] = {
    "EleutherAI/pythia-2.8b-deduped": _neox(2560, 32, 50304),
    "EleutherAI/pythia-6.9b-deduped": _neox(4096, 32, 50432),
    "meta-llama/Meta-Llama-3-8B-Instruct": _rms("llama", 4096, 8, 14336, 128256, 8192),
    "facebook/opt-125m": _opt(768, 12, 12),
    "facebook/opt-350m": _opt(1024, 24, 16, embedding=512),
    "facebook/opt-1.3b": _opt(2048, 24, 32),
    "facebook/opt-2.7b": _opt(2560, 32, 32),
    "microsoft/Phi-3-mini-4k-instruct": _rms("phi3", 3072, 32, 8192, 32064, 4096),
}


@dataclass(frozen=True)
class Linear:
    """A linear layer, named as in transformers."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Entries of its matrix."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """Its matrix and bias."""
        return self.weights + self.outputs * self.bias

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA of this rank, r·(inputs + outputs) (Hu et al. 2022 §4.1)."""
        return rank * (self.inputs + self.outputs)


@dataclass(frozen=True)
class Shape:
    """What a decoder's size follows from.

    Attributes:
        family: transformers' ``model_type``.
        hidden, layers, heads, vocab: as in ``config.json``.
        block: the linear layers of one block.
        norms: parameters of one block's norms.
        outer: linear layers outside the blocks, without the LM head.
        other: what remains: learned positions and the last norm.
        embedding: width of the token embedding.
        tied: the LM head is the embedding.
        kept: elements per token that one block keeps for its backward pass, with fused attention.
    """

    family: str
    hidden: int
    layers: int
    heads: int
    vocab: int
    block: tuple[Linear, ...]
    norms: int
    outer: tuple[Linear, ...]
    other: int
    embedding: int
    tied: bool
    kept: int

    @property
    def block_parameters(self) -> int:
        """Parameters of one block."""
        return sum(linear.parameters for linear in self.block) + self.norms

    @property
    def table(self) -> int:
        """Parameters of the token embedding."""
        return self.vocab * self.embedding

    @property
    def parameters(self) -> int:
        """All parameters, a tied LM head counted once."""
        outer = sum(linear.parameters for linear in self.outer) + self.other
        return self.layers * self.block_parameters + self.table * (1 if self.tied else 2) + outer

    @property
    def multiplied(self) -> int:
        """N of the FLOP counts: the weights that a token is multiplied with (a look-up is no multiplication)."""
        return self.linear_weights + self.table

    @property
    def linear_weights(self) -> int:
        """Weights of all linear layers but the LM head: what a quantised model stores in few bits."""
        return self.layers * sum(linear.weights for linear in self.block) + sum(linear.weights for linear in self.outer)

    def adapters(self, rank: int, targets: list[str] | None) -> int:
        """LoRA parameters for these targets (PEFT's own choice for the family when None); raises `UserError`."""
        names = targets or LORA_TARGETS[self.family]
        every = [linear for linear in self.block for _ in range(self.layers)] + list(self.outer)
        if list(names) == ["all-linear"]:
            return sum(linear.adapter(rank) for linear in every)
        known = {linear.name for linear in every}
        for name in names:
            if name not in known:
                raise UserError("lora_target_modules", name, f"is no linear layer of {self.family}; {nearest(name, known)}")
        return sum(linear.adapter(rank) for linear in every if linear.name in names)


# What PEFT 0.21 adapts when no target is named; it has no rule for Phi-3, whose fused projection is ours.
LORA_TARGETS = {"gpt_neox": ["query_key_value"], "opt": ["q_proj", "v_proj"], "llama": ["q_proj", "v_proj"], "phi3": ["qkv_proj"]}


# What a block keeps per token for the backward pass, in elements (checked against transformers' own
# saved tensors): the input and output of its norms; queries, keys, values and the attention's output;
# the MLP's activations. It is the count of Korthikanti et al. 2022, §4.1, without dropout masks and with
# fused attention, which recomputes the s×s scores.
def _kept(hidden: int, keys: int, norms: float, mlp: int) -> int:
    return int(norms * hidden) + 2 * hidden + 2 * keys + mlp


def gpt_neox(fact: Fact) -> Shape:
    """GPT-NeoX (Pythia): attention and MLP in parallel, LayerNorms with bias, GELU."""
    h, f = fact["hidden_size"], fact["intermediate_size"]
    block = (
        Linear("query_key_value", h, 3 * h, True),
        Linear("dense", h, h, True),
        Linear("dense_h_to_4h", h, f, True),
        Linear("dense_4h_to_h", f, h, True),
    )
    # One input for both norms; GELU keeps its input and its output.
    return _shape(fact, block, norms=4 * h, outer=(), other=2 * h, embedding=h, kept=_kept(h, h, 3, 2 * f))


def opt(fact: Fact) -> Shape:
    """OPT: learned positions (two more than are used), LayerNorms with bias, ReLU."""
    h, f, e = fact["hidden_size"], fact["ffn_dim"], fact["word_embed_proj_dim"]
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    block = (*(Linear(name, h, h, True) for name in names), Linear("fc1", h, f, True), Linear("fc2", f, h, True))
    outer = (Linear("project_in", e, h), Linear("project_out", h, e)) if e != h else ()
    last = 2 * h if fact["do_layer_norm_before"] else 0
    other = (fact["max_position_embeddings"] + 2) * h + last
    # ReLU's gradient needs its output alone.
    return _shape(fact, block, norms=4 * h, outer=outer, other=other, embedding=e, kept=_kept(h, h, 4, f))


def llama(fact: Fact) -> Shape:
    """Llama: grouped queries, RMSNorm without bias, gated MLP."""
    h, f, k = fact["hidden_size"], fact["intermediate_size"], _keys(fact)
    block = (
        Linear("q_proj", h, h),
        Linear("k_proj", h, k),
        Linear("v_proj", h, k),
        Linear("o_proj", h, h),
        Linear("gate_proj", h, f),
        Linear("up_proj", h, f),
        Linear("down_proj", f, h),
    )
    return _gated(fact, block, k)


def phi3(fact: Fact) -> Shape:
    """Phi-3: Llama with the projections fused."""
    h, f, k = fact["hidden_size"], fact["intermediate_size"], _keys(fact)
    block = (
        Linear("qkv_proj", h, h + 2 * k),
        Linear("o_proj", h, h),
        Linear("gate_up_proj", h, 2 * f),
        Linear("down_proj", f, h),
    )
    return _gated(fact, block, k)


def _gated(fact: Fact, block: tuple[Linear, ...], keys: int) -> Shape:
    h, f = fact["hidden_size"], fact["intermediate_size"]
    # transformers' RMSNorm works in float32 (two elements for one) and keeps its normalised input and output.
    return _shape(fact, block, norms=2 * h, outer=(), other=h, embedding=h, kept=_kept(h, keys, 8, 4 * f))


def _keys(fact: Fact) -> int:
    return int(fact["hidden_size"] // fact["num_attention_heads"] * fact["num_key_value_heads"])


def _shape(fact: Fact, block: tuple[Linear, ...], **rest: Any) -> Shape:
    return Shape(
        family=fact["model_type"],
        hidden=fact["hidden_size"],
        layers=fact["num_hidden_layers"],
        heads=fact["num_attention_heads"],
        vocab=fact["vocab_size"],
        tied=fact["tie_word_embeddings"],
        block=block,
        **rest,
    )


FAMILIES: dict[str, Callable[[Fact], Shape]] = {"gpt_neox": gpt_neox, "opt": opt, "llama": llama, "phi3": phi3}


def fact_of(model: str) -> Fact:
    """The configuration of a known model, or of a local folder with a ``config.json``; raises `UserError`."""
    if model in FACTS:
        return FACTS[model]
    path = Path(model) / "config.json"
    if not path.is_file():
        raise UserError("model_name_or_path", model, f"has no shape here and no config.json there; {nearest(model, FACTS)}")
    try:
        found = json.loads(path.read_text())
        return {"tie_word_embeddings": found.get("model_type") == "opt", **found}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError("model_name_or_path", model, f"its config.json cannot be read: {error}") from error


def shape_of(model: str) -> Shape:
    """The shape of a model, from facts or from its folder's ``config.json``; raises `UserError`."""
    fact = fact_of(model)
    family = str(fact.get("model_type"))
    if family not in FAMILIES:
        raise UserError("model_name_or_path", model, f"is of family {family}; shapes are known of {', '.join(FAMILIES)}")
    try:
        return FAMILIES[family](fact)
    except (KeyError, TypeError) as error:
        raise UserError("model_name_or_path", model, f"its config.json lacks {error}") from error

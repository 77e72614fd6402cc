"""Tiny transformers of well-known families, with random weights: nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from theory.errors import UserError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The sizes of the known-target world's models; longer prompts and responses than this are no finite language.
LAYERS, WIDTH, HEADS, POSITIONS = 2, 64, 4, 128


def _llama(width: int, layers: int, heads: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * width}
    return {**sizes, "num_key_value_heads": heads, "head_dim": width // heads}


def _gpt_neox(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * width}


def _opt(width: int, layers: int, heads: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "ffn_dim": 4 * width}
    return {**sizes, "word_embed_proj_dim": width, "dropout": 0.0}


def _phi3(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {**_gpt_neox(width, layers, heads), "num_key_value_heads": heads}


# What each family calls its sizes; every dropout is 0.
FAMILIES = {"llama": _llama, "gpt_neox": _gpt_neox, "opt": _opt, "phi3": _phi3}


def tiny_config(
    tokenizer: PreTrainedTokenizerBase, *, family: str = "llama", layers: int = LAYERS, width: int = WIDTH, heads: int = HEADS
) -> Any:
    """The configuration of a tiny model for a tokenizer's vocabulary.

    Raises:
        UserError: an unknown family, or a width that is no even multiple of the heads.
    """
    from transformers import AutoConfig

    if family not in FAMILIES:
        raise UserError("--family", family, nearest(family, FAMILIES))
    for name, value in (("--layers", layers), ("--width", width), ("--heads", heads)):
        if value < 1:
            raise UserError(name, value, "must be at least 1")
    if width % (2 * heads):
        raise UserError("--width", width, f"must be a multiple of 2 × {heads} heads (rotary positions come in pairs)")
    return AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **FAMILIES[family](width, layers, heads),
    )


def tiny_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    family: str = "llama",
    layers: int = LAYERS,
    width: int = WIDTH,
    heads: int = HEADS,
    seed: int = 0,
) -> PreTrainedModel:
    """A transformer with random weights, float32, that knows a tokenizer's vocabulary.

    Args:
        tokenizer: gives the size of the vocabulary and the special tokens.
        family: ``llama``, ``gpt_neox``, ``opt`` or ``phi3``.
        layers, width, heads: of the transformer; feed-forward layers are four times as wide.
        seed: of the weights; the process's own random state is left as it was.

    Raises:
        UserError: an unknown family, or sizes that do not fit.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = tiny_config(tokenizer, family=family, layers=layers, width=width, heads=heads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)

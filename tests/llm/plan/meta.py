"""Models of any size without weights: transformers' own classes on the meta device."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

# A small fact of each family, with sizes that differ wherever a family lets them.
SMALL = {
    "gpt_neox": {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256, "tie_word_embeddings": False},
    "opt": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "ffn_dim": 192,
        "word_embed_proj_dim": 64,
        "do_layer_norm_before": True,
        "tie_word_embeddings": True,
    },
    "llama": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 160,
        "tie_word_embeddings": False,
    },
    "phi3": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 160,
        "tie_word_embeddings": False,
    },
}
SMALL = {
    family: {"model_type": family, "num_hidden_layers": 2, "vocab_size": 96, "max_position_embeddings": 64, **fact}
    for family, fact in SMALL.items()
}


def build(fact, *, device: str = "meta", **changed) -> PreTrainedModel:
    """The model of a fact; token ids that do not fit a small vocabulary are moved to 0."""
    arguments = {**fact, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, **changed}
    config = AutoConfig.for_model(arguments.pop("model_type"), **arguments)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config)

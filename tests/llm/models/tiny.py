"""Random models of four families and a tokenizer, small enough to be exact about."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

WORDS = list("abcdefghijklmnopqrstuvwxyz")
SPECIAL = ["<pad>", "</s>", "<unk>", "user:", "assistant:"]
VOCAB = len(SPECIAL) + len(WORDS)
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
_TOKENS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
CONFIGS = {
    "llama": LlamaConfig(**_SHAPE, **_TOKENS, intermediate_size=24, num_key_value_heads=1),
    "gpt_neox": GPTNeoXConfig(**_SHAPE, **_TOKENS, intermediate_size=24),
    # The final hidden state is narrower than the model, as in OPT-350M.
    "opt": OPTConfig(**_SHAPE, **_TOKENS, ffn_dim=24, word_embed_proj_dim=12, dropout=0.0),
    "phi3": Phi3Config(**_SHAPE, **_TOKENS, intermediate_size=24, num_key_value_heads=2),
}
FAMILIES = tuple(CONFIGS)


def model(family: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model whose distributions are far from uniform."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(CONFIGS[family])
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return made.to(dtype).eval()


@cache
def _rules() -> str:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["</s>"])
    return made.to_str()


def tokenizer(*, pad: str | None = "<pad>", eos: str | None = "</s>", template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """A word a token; ``pad`` and ``eos`` as asked for."""
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_rules()), pad_token=pad, eos_token=eos, unk_token="<unk>")
    made.chat_template = template
    return made


def batch(rows: int = 3, seed: int = 0, longest: int = 9) -> dict[str, torch.Tensor]:
    """A collated batch of pairs of uneven lengths."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    return DataCollatorForPreference(pad_token_id=0)(examples(rows, seed, longest))


def examples(rows: int = 3, seed: int = 0, longest: int = 9) -> list[dict[str, list[int]]]:
    """Tokenised pairs of uneven lengths."""
    generator = torch.Generator().manual_seed(seed)

    def some(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(len(SPECIAL), VOCAB, (length,), generator=generator).tolist()

    return [{"prompt_ids": some(1, 5), "chosen_ids": some(1, longest), "rejected_ids": some(1, longest)} for _ in range(rows)]

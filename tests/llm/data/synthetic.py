"""Random preference data with a confidence, and a tokenizer of our own."""

from __future__ import annotations

import functools
from pathlib import Path

import datasets
import numpy as np

WORDS = ("tea", "milk", "cup", "pot", "hot", "cold", "sweet", "brown")
END = "<|end|>"


def sentences(rng: np.random.Generator, longest: int) -> str:
    return "".join(f" {word}" for word in rng.choice(WORDS, rng.integers(1, longest + 1)))


@functools.cache
def preferences(n: int, seed: int = 0, *, prompts: int = 10_000, unknown: float = 0.0) -> datasets.Dataset:
    """Comparisons with confidences 1 to 9, some of them null, and now and then a response that is a small edit."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        chosen = sentences(rng, 12)
        rejected = chosen + " indeed" if rng.random() < 0.5 else sentences(rng, 12) + " no"
        row = {"id": f"row-{i}", "prompt": f"Say {rng.integers(prompts)}:", "chosen": chosen, "rejected": rejected}
        rows.append(row | {"confidence": None if rng.random() < unknown else float(rng.integers(1, 10))})
    return datasets.Dataset.from_list(rows)


def tokenizer():
    """Word pieces with an end token and a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(("<unk>", END, "Say", ":", "indeed", "no", "user", "assistant", *WORDS))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token=END, pad_token=END)
    made.chat_template = (
        "{% for message in messages %}{{ message['role'] + ' ' + message['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
    )
    return made


def save_tokenizer(folder: Path) -> Path:
    tokenizer().save_pretrained(str(folder))
    return folder

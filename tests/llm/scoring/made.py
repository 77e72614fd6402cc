"""Preference data and models on disk for the tests of scoring."""

from __future__ import annotations

from pathlib import Path

import torch
from datasets import Dataset

from llm.data.schema import PREFERENCES, identity
from llm.models.reward_head import add_reward_head
from tests.llm.models import tiny


def data(rows: int = 7, seed: int = 0) -> Dataset:
    """Pairs of random words; the last prompt is the longest, ten words."""
    generator = torch.Generator().manual_seed(seed)

    def words(low: int, high: int) -> str:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return " ".join(tiny.WORDS[i] for i in torch.randint(len(tiny.WORDS), (length,), generator=generator))

    made = [{"prompt": words(1, 6) + " ", "chosen": words(1, 9), "rejected": words(1, 9)} for _ in range(rows)]
    made[-1]["prompt"] = "a b c d e f g h i j "
    return Dataset.from_list([{"id": identity(row, PREFERENCES), **row} for row in made])


def reference(folder: Path, seed: int = 0, template: str | None = tiny.TEMPLATE) -> str:
    """A language model's folder."""
    tiny.model(seed=seed).save_pretrained(folder)
    tiny.tokenizer(template=template).save_pretrained(folder)
    return str(folder)


def oracle(folder: Path, seed: int = 0, family: str = "llama") -> str:
    """The folder of a language model with a reward head."""
    model = tiny.model(family, seed=seed)
    add_reward_head(model, seed)
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)

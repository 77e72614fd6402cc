"""Tokens and scores of a finite language's comparisons by lookup: each response is read once, not once a row.

The columns are those that `llm.data.tokens.tokenise` and `llm score` would make of the same texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from llm.models.logps import sequence_rewards
from llm.world.exact import BATCH, fused
from llm.world.texts import prompt_texts, response_texts
from llm.world.tokenizer import encode, token_ids
from theory.instances.language import END, Language
from theory.instances.tabular import Array

SIDES = ("chosen", "rejected")


class Lookup:
    """Where each row of a data set stands in the language's table.

    Attributes:
        prompt: x of every row, shape (N,).
        response: index of its response by side, shape (N,) each.
    """

    def __init__(self, language: Language, dataset: Dataset):
        prompts = {text: x for x, text in enumerate(prompt_texts(language))}
        responses = {text: y for y, text in enumerate(response_texts(language, language.responses()))}
        self.language, self.dataset = language, dataset
        self.prompt = np.array([prompts[text] for text in dataset["prompt"][:]])
        self.response = {side: np.array([responses[text] for text in dataset[side][:]]) for side in SIDES}

    def tokenised(self, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The data with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``."""
        prompts, symbols = token_ids(tokenizer, self.language)
        ended = [[int(symbols[t]) for t in row if t != END] + [tokenizer.eos_token_id] for row in self.language.responses()]
        columns: dict[str, Any] = {"prompt_ids": [list(prompts[x]) for x in self.prompt]}
        columns |= {f"{side}_ids": [ended[y] for y in self.response[side]] for side in SIDES}
        return _with(self.dataset, columns)

    def scored(self, dataset: Dataset, names: tuple[str, str], tables: list[Array]) -> Dataset:
        """The data with a column a side, taken from tables of shape (X, V); lists where there are several."""
        columns = {}
        for name, side in zip(names, SIDES, strict=True):
            values = np.stack([table[self.prompt, self.response[side]] for table in tables], 1)
            columns[name] = (values[:, 0] if len(tables) == 1 else values).tolist()
        return _with(dataset, columns)


REFERENCE, REWARD = ("ref_chosen_logps", "ref_rejected_logps"), ("reward_chosen", "reward_rejected")


def all_rewards(model: nn.Module, tokenizer: PreTrainedTokenizerBase, language: Language, batch_size: int = BATCH) -> Array:
    """A reward model's number for every response to every prompt, shape (X, V), nats."""
    prompt = np.repeat(np.arange(language.prompts), language.vocab)
    inputs = encode(tokenizer, language, prompt, np.tile(language.responses(), (language.prompts, 1)))
    tensors = {name: torch.from_numpy(ids) for name, ids in inputs.items()}
    model.eval()
    with torch.no_grad(), fused(model):
        parts = [
            sequence_rewards(model, {name: ids[start : start + batch_size] for name, ids in tensors.items()}).double()
            for start in range(0, len(prompt), batch_size)
        ]
    return torch.cat(parts).numpy().reshape(language.prompts, -1)


def _with(dataset: Dataset, columns: dict[str, Any]) -> Dataset:
    for name, values in columns.items():
        dataset = dataset.add_column(name, values)
    return dataset

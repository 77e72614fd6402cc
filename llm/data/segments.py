"""Texts cut into tokens, by a tokenizer or at white space, and how many a comparison has."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm.data.schema import plain_text
from theory.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Tokens = Sequence[Hashable]
BATCH = 1_000


@dataclass(frozen=True)
class Segmenter:
    """How texts become tokens.

    Attributes:
        name: what reports call it: ``words`` or the tokenizer's name.
        cut: texts to their tokens, without special tokens.
        tokenizer: the tokenizer, or None for words.
    """

    name: str
    cut: Callable[[list[str]], list[Any]]
    tokenizer: PreTrainedTokenizerBase | None = None


def words(texts: list[str]) -> list[Tokens]:
    """Maximal runs without white space."""
    return [text.split() for text in texts]


WORDS = Segmenter("words", words)


def segmenter(tokenizer: str | PreTrainedTokenizerBase | None) -> Segmenter:
    """The tokens of a tokenizer (given, or by name), or `WORDS`; raises `UserError` if it cannot be loaded."""
    if tokenizer is None:
        return WORDS
    if isinstance(tokenizer, str):
        from llm.models.load import load_tokenizer

        tokenizer = load_tokenizer(tokenizer)
    return Segmenter(tokenizer.name_or_path or "tokenizer", _ids(tokenizer), tokenizer)


def rows(dataset: Dataset, names: Sequence[str], segmenter: Segmenter) -> Iterator[tuple[Tokens, ...]]:
    """Each row's tokens in some of its columns; a list of messages counts as its contents."""
    for batch in dataset.select_columns(list(names)).iter(BATCH):
        columns = [segmenter.cut([plain_text(value) for value in batch[name]]) for name in names]
        yield from zip(*columns, strict=True)


def lengths(dataset: Dataset, names: Sequence[str], segmenter: Segmenter) -> dict[str, NDArray[np.int64]]:
    """Tokens of each row's text in some of its columns, each (rows,)."""
    counts = np.array([[len(text) for text in row] for row in rows(dataset, names, segmenter)], dtype=np.int64)
    return dict(zip(names, counts.reshape(-1, len(names)).T, strict=True))


def pair_lengths(dataset: Dataset, segmenter: Segmenter) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens of prompt and chosen together, and of prompt and rejected, each (rows,), as training makes them.

    With a tokenizer, text is joined and ends with its end-of-sequence token, and messages go through
    its chat template, as in TRL's ``DPOTrainer``. Words are counted as they stand.

    Raises:
        UserError: messages, and the tokenizer has no chat template.
    """
    sides = [np.concatenate(counts) for counts in zip(*_batches(dataset, segmenter), strict=True)]
    return sides[0], sides[1]


def _batches(dataset: Dataset, segmenter: Segmenter) -> list[list[NDArray[np.int64]]]:
    chats = bool(len(dataset)) and not isinstance(dataset[0]["prompt"], str)
    tokenizer = segmenter.tokenizer
    if tokenizer is not None and chats and not tokenizer.chat_template:
        raise UserError("--tokenizer", segmenter.name, "has no chat template, which messages need")
    found = []
    for batch in dataset.select_columns(["prompt", "chosen", "rejected"]).iter(BATCH):
        pairs = [list(zip(batch["prompt"], batch[side], strict=True)) for side in ("chosen", "rejected")]
        found.append([np.array(_counts(side, segmenter, chats), dtype=np.int64) for side in pairs])
    return found


def _counts(pairs: list[tuple[Any, Any]], segmenter: Segmenter, chats: bool) -> list[int]:
    tokenizer: Any = segmenter.tokenizer
    if tokenizer is None:
        return [len(ids) for ids in segmenter.cut([f"{plain_text(p)} {plain_text(r)}" for p, r in pairs])]
    if chats:
        conversations = [prompt + reply for prompt, reply in pairs]
        return [len(ids) for ids in tokenizer.apply_chat_template(conversations, return_dict=True)["input_ids"]]
    end = tokenizer.eos_token or ""
    return [len(ids) for ids in tokenizer([p + r + ("" if end and r.endswith(end) else end) for p, r in pairs])["input_ids"]]


def _ids(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[str]], list[Any]]:
    return lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]

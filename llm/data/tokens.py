"""Preference data as tokens, by TRL's own code: what is scored is what is trained on."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase
from trl import DPOTrainer

from theory.errors import UserError

logger = logging.getLogger(__name__)

TOKENS = ("prompt_ids", "chosen_ids", "rejected_ids")
# What the tokeniser reads of a row.
_TEXT = ("prompt", "chosen", "rejected", "tools", "chat_template_kwargs")
_PLACE = "_place"


def tokenise(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None, *, strict: bool = False) -> Dataset:
    """Add ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``; every other column stays as it is.

    The completions of text end with EOS, conversations follow the chat template. Rows whose prompt alone has
    ``max_length`` tokens or more leave no token to learn from and are dropped, with a note of how many;
    `dropped` names them. A longer completion is cut to ``max_length`` by the collator, not here.

    Args:
        dataset: with the columns ``id``, ``prompt``, ``chosen`` and ``rejected``.
        tokenizer: of the model that will read the tokens.
        max_length: of prompt and completion together, tokens; None for no limit.
        strict: refuse rather than drop.

    Raises:
        UserError: a prompt is too long (``strict``), or all are; or the tokenizer has no chat template or EOS
            where the data need one.
    """
    if max_length is not None and max_length < 2:
        raise UserError("--max-length", max_length, "must be at least 2: one token of a prompt and one to predict")
    if len(dataset) == 0:
        raise UserError("--data", None, "holds no rows")
    _readable(dataset, tokenizer)
    text = dataset.select_columns([name for name in _TEXT if name in dataset.column_names])
    text = text.add_column(_PLACE, list(range(len(dataset))))
    # A stand-in for the trainer: the method reads nothing of it but the tokenizer.
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer)
    args: Any = SimpleNamespace(dataset_num_proc=None, max_length=max_length, truncation_mode="keep_start")
    prepared: Any = DPOTrainer._prepare_dataset(trainer, text, tokenizer, args, "preference")
    places = prepared[_PLACE][:]
    if len(places) < len(dataset):
        _report(dataset, set(places), max_length, strict)
        dataset = dataset.select(places)
    # TRL writes EOS into the texts; the rows keep their own.
    return concatenate_datasets([dataset, prepared.select_columns(list(TOKENS))], axis=1)


def dropped(before: Dataset, after: Dataset) -> list[str]:
    """The ids of the rows that `tokenise` left out."""
    kept = set(after["id"])
    return [row for row in before["id"] if row not in kept]


def _readable(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    conversational = not isinstance(dataset[0]["prompt"], str)
    if conversational and tokenizer.chat_template is None:
        remedy = "holds conversations, and the tokenizer has no chat template: use an instruct model's, or --chat-template plain"
        raise UserError("--data", None, remedy)
    if not conversational and tokenizer.eos_token is None:
        raise UserError("--model", tokenizer.name_or_path, "its tokenizer has no EOS token to end a completion with")


def _report(dataset: Dataset, kept: set[int], max_length: int | None, strict: bool) -> None:
    """Say how many prompts fill the limit, or refuse them."""
    lost = [place for place in range(len(dataset)) if place not in kept]
    first = dataset[lost[0]]["id"]
    if strict:
        raise UserError("--max-length", max_length, f"prompt longer than the limit in row {first}: raise it, or filter the data")
    if not kept:
        raise UserError("--max-length", max_length, "every prompt is longer than the limit: raise it")
    logger.warning(
        "%d of %d rows dropped: prompt longer than the limit of %s tokens (first: %s)", len(lost), len(dataset), max_length, first
    )

"""Scores as columns of a data set, matched by id and never by place."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from llm.scoring.digest import contents, tokenizer_digest
from llm.scoring.files import COLUMNS, Scores, read
from theory.errors import UserError

logger = logging.getLogger(__name__)


def join(
    dataset: Dataset, *files: str | Path, tokenizer: PreTrainedTokenizerBase | None = None, max_length: int | None = None
) -> Dataset:
    """The data with the scores of files as columns, matched by ``id``.

    The reward files' models make one ensemble, in the order of the files: lists of k numbers; a single model
    gives plain numbers. Rows that ``llm score`` left out because their prompt fills the length limit are left
    out here too, with a note.

    Args:
        dataset: with ``id``, ``prompt``, ``chosen`` and ``rejected``.
        files: paths of scores.
        tokenizer: of the policy; the reference's must equal it. None does not check.
        max_length: of the policy's sequences; the reference's must equal it. None does not check.

    Raises:
        UserError: a file is broken, or lacks a finite score for some row; a row's texts are not those that were
            scored; an ensemble's size differs between rows; a reference read the data with another tokenizer,
            chat template or limit; or two files give the same column.
    """
    if not files:
        return dataset
    scores = [read(path) for path in files]
    ids = dataset["id"][:]
    content = contents(dataset) if any("content" in s.table.column_names for s in scores) else []
    places = [_match(s, ids, content) for s in scores]
    kept = np.flatnonzero(np.logical_and.reduce([_scored(s)[at] for s, at in zip(scores, places, strict=True)]))
    if not len(kept):
        raise UserError("--scores", files[0], "scored none of the rows: every prompt is longer than its limit")
    columns: dict[str, np.ndarray] = {}
    for s, at in zip(scores, places, strict=True):
        _same_reading(s, tokenizer, max_length)
        for name, values in _numbers(s, at[kept]).items():
            if name in dataset.column_names or (s.kind == "reference" and name in columns):
                raise UserError("--scores", s.path, f"gives {name}, which is there already: give one source of it")
            columns[name] = np.concatenate([columns[name], values], 1) if name in columns else values
    if len(kept) < len(dataset):
        logger.warning("%d of %d rows left out: their prompts are too long to be scored", len(dataset) - len(kept), len(dataset))
        dataset = dataset.select(kept)
    for name, values in columns.items():
        dataset = dataset.add_column(name, (values[:, 0] if values.shape[1] == 1 else values).tolist())
    return dataset


def _match(scores: Scores, ids: list[str], content: list[str]) -> np.ndarray:
    """The place in a file of every row of the data, by id and, where the file has it, by content."""
    there = {row: place for place, row in enumerate(scores.table["id"].to_pylist())}
    if len(there) < len(scores.table):
        raise UserError("--scores", scores.path, "has an id twice: score again with llm score")
    missing = [row for row in ids if row not in there]
    if missing:
        remedy = f"has no score for {len(missing)} of {len(ids)} rows (first: {missing[0]}): score this data with llm score"
        raise UserError("--scores", scores.path, remedy)
    places = np.array([there[row] for row in ids], dtype=np.int64)
    if "content" in scores.table.column_names:
        scored = scores.table["content"].to_pylist()
        for row, place, text in zip(ids, places, content, strict=True):
            if scored[place] != text:
                raise UserError("--scores", scores.path, f"scored other texts under the id {row}: score this data with llm score")
    return places


def _scored(scores: Scores) -> np.ndarray:
    """Which rows of a file have scores: our own files leave rows out whose prompt fills the limit."""
    if scores.provenance is None:
        return np.ones(len(scores.table), dtype=bool)
    return scores.table[COLUMNS[scores.kind][0]].is_valid().to_numpy(zero_copy_only=False)


def _numbers(scores: Scores, places: np.ndarray) -> dict[str, np.ndarray]:
    """The two columns of some rows of a file, shape (rows, models) each, all finite."""
    table = scores.table.take(pa.array(places))
    found = {name: _matrix(scores, table, name) for name in COLUMNS[scores.kind]}
    first, second = (values.shape[1] for values in found.values())
    if first != second:
        raise UserError("--scores", scores.path, f"has ensembles of different sizes: {first} for chosen, {second} for rejected")
    return found


def _matrix(scores: Scores, table: pa.Table, name: str) -> np.ndarray:
    rows = [value if isinstance(value, list) else [value] for value in table[name].to_pylist()]
    sizes = {len(row) for row in rows}
    if len(sizes) > 1:
        raise UserError("--scores", scores.path, f"has ensembles of different sizes in {name}: {min(sizes)} and {max(sizes)}")
    try:
        values = np.array(rows, dtype=np.float64).reshape(len(rows), -1)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise UserError("--scores", scores.path, f"holds something other than numbers in {name}") from error
    wrong = np.flatnonzero(~np.isfinite(values).all(1))
    if len(wrong):
        row = table["id"][int(wrong[0])].as_py()
        found = values[wrong[0]][~np.isfinite(values[wrong[0]])][0]
        raise UserError("--scores", scores.path, f"{name} is {found} in {len(wrong)} rows (first: {row}): score them again")
    return values


def _same_reading(scores: Scores, tokenizer: PreTrainedTokenizerBase | None, max_length: int | None) -> None:
    """Refuse a reference that read other tokens than the policy will; an oracle may have a tokenizer of its own."""
    made = scores.provenance
    if made is None or made.kind != "reference":
        return
    if tokenizer is not None and made.tokenizers != (tokenizer_digest(tokenizer),):
        remedy = "scored with another tokenizer or chat template than the model's: score again with llm score"
        raise UserError("--scores", scores.path, remedy)
    if max_length is not None and made.max_length != max_length:
        raise UserError("--scores", scores.path, f"scored with --max-length {made.max_length}, not {max_length}: use one of them")

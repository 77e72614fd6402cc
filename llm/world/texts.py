"""Prompts, responses and preferences of a finite language as text, and back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.errors import UserError
from theory.files import write_whole, writing
from theory.instances.language import END, Language, Tokens

if TYPE_CHECKING:
    from datasets import Dataset

# The word that ends every prompt, so that no prompt is the beginning of another.
COLON = ":"
# Rows of JSON that are turned into text at once.
BATCH = 50_000


def words(tokens: int) -> list[str]:
    """The T tokens as words: a … z, then aa, ab, … as the columns of a spreadsheet."""
    found: list[str] = []
    width = 0
    while len(found) < tokens:
        width += 1
        found += ["".join(letters) for letters in product(ascii_lowercase, repeat=width)]
    return found[:tokens]


def prompt_texts(language: Language) -> list[str]:
    """The X prompts, ``p0 :``, ``p1 :`` and so on."""
    return [f"p{x} {COLON}" for x in range(language.prompts)]


def response_texts(language: Language, tokens: Tokens) -> list[str]:
    """Responses as text to append to a prompt: each token after a space, such as `` a b c``; tokens (N, L)."""
    spaced = [f" {word}" for word in words(language.tokens)] + [""]  # END = −1 is the last entry: nothing
    return ["".join(spaced[token] for token in row) for row in tokens.tolist()]


def parse_responses(language: Language, texts: list[str]) -> Tokens:
    """The responses that texts stand for, shape (N, L); raises `UserError` for a word that is no token."""
    index = {word: token for token, word in enumerate(words(language.tokens))}
    found = np.full((len(texts), language.length), END)
    for row, text in enumerate(texts):
        parts = text.split()
        if unknown := [part for part in parts if part not in index]:
            raise UserError("response", repr(text), f"{unknown[0]!r} is none of the language's {language.tokens} tokens")
        if not parts or len(parts) > language.length:
            raise UserError("response", repr(text), f"must have from 1 to {language.length} tokens")
        found[row, : len(parts)] = [index[part] for part in parts]
    return found


def preference_table(language: Language, n: int, seed: int = 0) -> Any:
    """n labelled comparisons of the language as an Arrow table with columns ``id, prompt, chosen, rejected``.

    Pairs whose two responses are equal are left out, though they count in n (`draw_labelled`). An id names the
    language, n, the seed and the draw, so it is unique and the same wherever the data are made again.

    Raises:
        UserError: n < 1, a negative seed, or no pair of different responses among the n.
    """
    import pyarrow as pa

    from theory.sampling.responses import draw_labelled

    data = draw_labelled(language, n, seed)
    if not len(data.draw):
        raise UserError("n", n, "gave no pair of different responses; draw more")
    stem = f"{language.fingerprint[:12]}-{n}-{seed}-"
    prompts = pa.array(prompt_texts(language), pa.string())
    columns = {
        "id": pa.array([f"{stem}{draw}" for draw in data.draw.tolist()], pa.string()),
        "prompt": prompts.take(pa.array(data.prompt)),
        "chosen": pa.array(response_texts(language, data.chosen), pa.string()),
        "rejected": pa.array(response_texts(language, data.rejected), pa.string()),
    }
    return pa.table(columns)


def preference_dataset(language: Language, n: int, seed: int = 0) -> Dataset:
    """`preference_table` as a data set in memory."""
    from datasets import Dataset

    return Dataset(preference_table(language, n, seed))


def write_preferences(language: Language, n: int, seed: int, path: str | Path) -> int:
    """Write `preference_table` to a .jsonl or .parquet file, whole or not at all.

    Returns:
        The number of rows written: n less the pairs whose responses are equal.

    Raises:
        UserError: as `preference_table`; another extension; or the file cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[Any, Path], None]] = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise UserError("path", path, "must end in .jsonl or .parquet")
    table = preference_table(language, n, seed)
    with writing("path", path):
        write_whole(path, lambda partial: writers[path.suffix](table, partial))
    return int(table.num_rows)


def _write_jsonl(table: Any, path: Path) -> None:
    import json

    with path.open("w", encoding="utf-8") as stream:
        for batch in table.to_batches(max_chunksize=BATCH):
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())


def _write_parquet(table: Any, path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path)

"""Rows of local files and folders: JSON lines, JSON, CSV, Parquet, Arrow, and what ``save_to_disk`` wrote.

Files are read here rather than by ``datasets.load_dataset``, which infers one type for each column and
so cannot say which row holds a number where text should be, and which keeps a copy of every file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llm.data.schema import Row
from theory.errors import UserError

# Numbered from 1.
Rows = Iterator[tuple[int, Row]]
BATCH = 1_000
# "train-00000-of-00002-0a1b.parquet" is a shard of "train".
_SHARD = re.compile(r"-\d{5}-of-\d{5}.*$")


def splits(path: Path) -> dict[str, list[Path]]:
    """The splits of a file or folder and their files; the only split of a single file has no name.

    Raises:
        UserError: there is nothing that can be read.
    """
    if path.is_file():
        if path.suffix not in _READERS:
            raise UserError("--data", path, f"is none of {', '.join(_READERS)}")
        return {"": [path]}
    if (path / "dataset_dict.json").exists():
        return {split: [path / split] for split in _saved_splits(path / "dataset_dict.json")}
    if (path / "state.json").exists():
        return {"": [path]}
    for folder, suffix in ((folder, suffix) for folder in (path, path / "data") for suffix in _READERS):
        if files := sorted(folder.glob(f"[!.]*{suffix}")):
            return _by_split(files)
    raise UserError("--data", path, f"has no file with one of the endings {', '.join(_READERS)}")


def read(path: Path) -> Rows:
    """The rows of a file, or of a folder that ``save_to_disk`` wrote; raises `UserError`."""
    reader = _saved if path.is_dir() else _READERS[path.suffix]
    try:
        yield from reader(path)
    except OSError as error:
        raise UserError("--data", path, f"cannot be read: {error.strerror or _first_line(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError("--data", path, f"is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _by_split(files: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_SHARD.sub("", file.stem), []).append(file)
    return found


def _saved_splits(path: Path) -> list[str]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("--data", path, "does not list splits: save the data set again") from error


def _json_lines(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _row(path, number, _parse(path, f", row {number}", line))


def _json(path: Path) -> Rows:
    """A list of rows; a file of this ending with JSON lines is read too."""
    with path.open(encoding="utf-8-sig") as stream:
        start = stream.read(BATCH).lstrip()[:1]
    if start != "[":
        yield from _json_lines(path)
        return
    for number, row in enumerate(_parse(path, "", path.read_text(encoding="utf-8-sig")), 1):
        yield number, _row(path, number, row)


def _parse(path: Path, where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"--data {path}{where}", None, f"is not JSON: {error}") from error


def _row(path: Path, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"--data {path}, row {number}", None, f"must be a JSON object, not {type(value).__name__}")
    return value


def _csv(path: Path) -> Rows:
    """Every field as text: a response "42" is not a number."""
    import csv

    import pyarrow as pa
    from pyarrow.csv import ConvertOptions, ParseOptions, open_csv

    with path.open(encoding="utf-8-sig", newline="") as stream:
        names = next(csv.reader(stream), [])
    options = {
        "parse_options": ParseOptions(newlines_in_values=True),
        "convert_options": ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    }
    yield from _arrow_batches(path, lambda: open_csv(path, **options))


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet as pq

    yield from _arrow_batches(path, lambda: pq.ParquetFile(path).iter_batches(BATCH))


def _arrow(path: Path) -> Rows:
    """The streaming format, which ``datasets`` writes, or the file format."""
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(path)) as source:
            try:
                yield from pa.ipc.open_stream(source)
            except pa.ArrowInvalid:
                source.seek(0)
                reader = pa.ipc.open_file(source)
                yield from (reader.get_batch(i) for i in range(reader.num_record_batches))

    yield from _arrow_batches(path, batches)


def _arrow_batches(path: Path, batches: Callable[[], Any]) -> Rows:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except pa.ArrowException as error:
        raise UserError("--data", path, f"is not a readable {path.suffix} file: {_first_line(error)}") from error


def _saved(path: Path) -> Rows:
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except (ValueError, FileNotFoundError) as error:
        raise UserError("--data", path, f"is no data set that can be read: {_first_line(error)}") from error
    yield from rows_of(dataset)


def rows_of(dataset: Any) -> Rows:
    """The rows of a ``datasets.Dataset``."""
    number = 0
    for table in dataset.with_format("arrow").iter(BATCH):
        for row in table.to_pylist():
            number += 1
            yield number, row


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


# In the order in which a folder that has several is read.
_READERS: dict[str, Callable[[Path], Rows]] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".json": _json,
}

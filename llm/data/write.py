"""Data sets as Parquet files with an account of their making, whole or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theory import __version__
from theory.errors import UserError
from theory.files import write_whole, writing

if TYPE_CHECKING:
    from datasets import Dataset

# The key of our own entry among a Parquet file's metadata.
KEY = b"prefproof"


def free(option: str, path: Path) -> None:
    """Find out before any work that an output can be written and nothing is there that it would replace.

    Raises:
        UserError: the path is taken (by anything but an empty folder), or cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(option, path, "exists already and is not overwritten: choose another name or delete it")
    if not path.absolute().parent.is_dir():
        raise UserError(option, path, "its folder does not exist")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UserError(option, path, "its folder cannot be written to")


def write_file(dataset: Dataset, path: Path, provenance: Mapping[str, Any], option: str = "--out") -> None:
    """Write a data set to a Parquet file; raises `UserError` if the path is taken or cannot be written."""
    free(option, path)
    with writing(option, path):
        write_whole(path, lambda partial: _parquet(dataset, partial, provenance))


def write_folder(
    parts: Mapping[str, Mapping[str, Dataset]], path: Path, provenance: Mapping[str, Any], option: str = "--out"
) -> None:
    """Write ``path/PART/SPLIT.parquet`` for every part and split, and ``path/report.json``; raises `UserError`."""
    free(option, path)
    with writing(option, path), _staged(path) as folder:
        for part, splits in parts.items():
            (folder / part).mkdir()
            for split, dataset in splits.items():
                _parquet(dataset, folder / part / f"{split}.parquet", {**provenance, "part": part, "split": split})
        text = json.dumps({**provenance, "version": __version__}, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        if path.exists():
            path.rmdir()
        os.chmod(folder, 0o755)
        os.replace(folder, path)


def provenance_of(path: Path) -> dict[str, Any]:
    """What a file written here records of its making; empty for another Parquet file."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(KEY, b"{}"))


def _parquet(dataset: Dataset, path: Path, provenance: Mapping[str, Any]) -> None:
    import pyarrow.parquet as pq

    table = dataset.with_format("arrow")[:]
    ours = json.dumps({**provenance, "version": __version__}, ensure_ascii=False, allow_nan=False).encode()
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: ours}), path, compression="zstd")


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """A folder beside the output to write in; what is left of it is deleted."""
    folder = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

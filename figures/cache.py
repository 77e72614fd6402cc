"""Data of figures, computed once for a configuration and the code that it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from figures import code
from figures.figure import Figure
from theory.errors import UserError

VARIABLE = "PREFPROOF_CACHE"


@dataclass(frozen=True)
class Found:
    """A figure's data.

    Attributes:
        data: the tidy table.
        key: of the configuration, the code and the results read.
        source: ``computed``, ``cache``, or ``corrupted``: there was a cache that could not be read, and it was rebuilt.
    """

    data: pd.DataFrame
    key: str
    source: str


def default_folder() -> Path:
    """``$PREFPROOF_CACHE``, else ``prefproof`` in the user's cache directory."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "prefproof"


def data_key(figure: Figure, config: Any) -> str:
    """What decides the numbers: the configuration, the code of ``data`` and the results that it reads."""
    settings = json.dumps(dataclasses.asdict(config), sort_keys=True, default=str)
    parts = [figure.name, settings, code.digest(figure.data.__module__, figure.data.__name__)]
    if figure.results is not None:
        parts = [part.replace(str(config.results), "") for part in parts]  # where they lie decides nothing
        parts.append(hashlib.sha256(results_file(figure, config).read_bytes()).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def results_file(figure: Figure, config: Any) -> Path:
    """The results of `llm` that a figure reads; raises `UserError` with the command that makes them."""
    assert figure.results is not None
    path = Path(config.results) / figure.results.file
    if not path.is_file():
        raise UserError("--results", path, f"is missing; make it with: {figure.results.command}")
    return path


def fetch(figure: Figure, config: Any, folder: Path) -> Found:
    """The data of a figure from the cache, or computed and put there.

    Raises:
        UserError: results that the figure reads are missing, or the cache cannot be written.
    """
    key = data_key(figure, config)
    path = folder / "figures" / f"{figure.name}-{key}.parquet"
    source = "computed"
    if path.exists():
        try:
            return Found(pd.read_parquet(path), key, "cache")
        except (OSError, ValueError):  # pyarrow's errors of broken files are ValueErrors
            source = "corrupted"
    data = figure.data(config)
    with writable("--cache", folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data.to_parquet)
    return Found(data, key, source)


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name and rename it: it is whole, or what was there before."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextmanager
def writable(argument: str, path: Path) -> Iterator[None]:
    """Say in one line that a place cannot be written to."""
    try:
        yield
    except OSError as error:
        raise UserError(argument, path, f"cannot be written: {error.strerror or error}") from error

"""Data of figures, computed once for a configuration and the code that it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import code
from figures.figure import Figure
from theory.errors import UserError
from theory.files import write_whole, writing

if TYPE_CHECKING:
    import pandas as pd

VARIABLE = "PREFPROOF_CACHE"
# What `Figure.reads` starts from.
ROOT = Path(__file__).parents[1]
# Another release of these may round, draw or solve otherwise.
LIBRARIES = ("mpmath", "numpy", "scipy", "sympy", "torch")


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
    """What decides the numbers: the configuration, the code of ``data``, the files that it reads, and the libraries.

    Raises:
        UserError: results that the figure reads are missing.
        LookupError: a pattern of ``figure.reads`` matches no file.
    """
    parts = [figure.name, code.digest(figure.data.__module__, figure.data.__name__), _libraries()]
    parts.append(json.dumps(settings(figure, config), sort_keys=True))
    if figure.results is not None:
        parts.append(_hash(results_file(figure, config)))
    for pattern in figure.reads:
        matches = sorted(path for path in ROOT.glob(pattern) if path.is_file())
        if not matches:
            raise LookupError(f"{figure.name} reads {pattern}, which matches no file")
        parts += [f"{path.relative_to(ROOT).as_posix()} {_hash(path)}" for path in matches]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def settings(figure: Figure, config: Any) -> dict[str, Any]:
    """A configuration in JSON's types, without the folder of results: where they lie decides nothing."""
    return {name: value for name, value in dataclasses.asdict(config).items() if figure.results is None or name != "results"}


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
        UserError: results that the figure reads are missing or broken, or the cache cannot be written.
    """
    key = data_key(figure, config)
    path = folder / "figures" / f"{figure.name}-{key}.parquet"
    source = _source(path)
    if source != "cache":
        if figure.results is not None:
            _check_results(results_file(figure, config), figure.results.command)
        try_writing("--cache", path.parent)
        data = figure.data(config)
        with writing("--cache", folder):
            _write(path, data.to_parquet())
    import pandas as pd

    # Computed data are read back too, so that a picture drawn from the cache is the one drawn at first.
    return Found(pd.read_parquet(path), key, source)


def _source(path: Path) -> str:
    """Where a table comes from: `Found.source`. Parquet alone does not notice every broken byte."""
    if not path.exists():
        return "computed"
    try:
        return "cache" if _sum(path).read_bytes() == _hash(path).encode() else "corrupted"
    except OSError:
        return "corrupted"


def _write(path: Path, table: bytes) -> None:
    # In this order, so that a process killed in between leaves no table that looks broken.
    write_whole(_sum(path), lambda temporary: temporary.write_bytes(hashlib.sha256(table).hexdigest().encode()))
    write_whole(path, lambda temporary: temporary.write_bytes(table))


def _sum(path: Path) -> Path:
    return path.with_suffix(".sha256")


def try_writing(argument: str, folder: Path) -> None:
    """Make a folder and find out whether it takes files, before any work; raises `UserError`."""
    with writing(argument, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def _check_results(path: Path, command: str) -> None:
    from pyarrow import parquet

    try:
        parquet.read_metadata(path)
    except (OSError, ValueError) as error:
        raise UserError("--results", path, f"cannot be read; make it again with: {command}") from error


@cache
def _libraries() -> str:
    return " ".join(f"{name} {version(name)}" for name in LIBRARIES)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""A gallery of made-up figures, built by the real commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from figures import cache, code, registry
from figures.build import Order
from figures.cli import app
from tests.cli.conftest import Ran
from tests.figures import toys
from theory.cli.program import run


@pytest.fixture
def gallery(monkeypatch, tmp_path) -> Any:
    """`tests.figures.toys` in place of the real gallery, and a cache of its own."""
    monkeypatch.setattr(registry, "gallery", toys)
    monkeypatch.setattr(code, "ROOMS", (*code.ROOMS, "tests"))
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    registry.names.cache_clear()
    _forget()
    squares = registry.get("squares").data.__module__
    sys.modules[squares].COMPUTED.clear()
    yield toys
    registry.names.cache_clear()
    _forget()


def _forget() -> None:
    """Digests read each file once a process; here files and rooms change."""
    for remembered in (code._path, code._source, code._tree, code._imported):
        remembered.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture
def forget() -> Callable[[], None]:
    return _forget


@pytest.fixture
def computed(gallery) -> list[Any]:
    """The configurations of ``squares`` that were computed."""
    return sys.modules[f"{toys.__name__}.squares"].COMPUTED


@pytest.fixture
def order(gallery, tmp_path) -> Order:
    return Order(formats=("svg",), out=tmp_path / "out", cache=tmp_path / "cache")


@pytest.fixture
def runs(tmp_path) -> Path:
    """A folder of results that ``runs`` can read."""
    folder = tmp_path / "results"
    folder.mkdir()
    pd.DataFrame({"step": [1, 2, 3], "loss": [0.7, 0.6, 0.5]}).to_parquet(folder / "runs.parquet")
    return folder


@pytest.fixture
def figures(capsys, monkeypatch, gallery) -> Callable[..., Ran]:
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> Ran:
        exit_code = run(app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(exit_code, captured.out, captured.err)

    return call

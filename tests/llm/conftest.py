"""What tests of training share: a reference's folder and its table, made once a session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.llm import small


@pytest.fixture(scope="session")
def start(tmp_path_factory) -> Path:
    """The folder of a model to start from."""
    return small.save(small.model(seed=1), tmp_path_factory.mktemp("models") / "start")


@pytest.fixture(scope="session")
def reference() -> small.Table:
    """The table of that model."""
    return small.table(small.double(small.model(seed=1)))


@pytest.fixture(scope="session")
def jsonl(tmp_path_factory) -> Path:
    """Comparisons as a user has them."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = small.preference_dataset(small.LANGUAGE, 40, 0).select_columns(["prompt", "chosen", "rejected"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def quick_world(monkeypatch) -> None:
    """References that are fitted for a few steps only, and teachers too: what they learn does not matter."""
    from llm.world import experiment
    from llm.world.reference import Fitting, fit_reference

    fitting = Fitting(layers=1, width=16, heads=2, batch=16, steps=5, warmup=1)
    monkeypatch.setattr(experiment, "fit_reference", lambda language, cache: fit_reference(language, cache, fitting))
    monkeypatch.setattr(experiment, "TEACHER_STEPS", 2)


@pytest.fixture
def run(capsys) -> Callable[..., Any]:
    """Run a command line as a user does, in this process."""
    from llm.cli.main import run as command
    from tests.cli.conftest import Ran

    def call(*arguments: object) -> Ran:
        code = command([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call

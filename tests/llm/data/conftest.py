"""Run ``llm data`` as a user does, and small data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from llm.cli.data import register
from theory.cli.program import program, run


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of a refusal."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")


@pytest.fixture
def llm(capsys, monkeypatch) -> Callable[..., Ran]:
    monkeypatch.setenv("COLUMNS", "120")
    app = program("llm", "Train language models.")
    register(app)
    app.command("other")(lambda: None)

    def call(*arguments: object) -> Ran:
        code = run(app, [str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call

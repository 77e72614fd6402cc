"""What the README says is what the programs do."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from theory.cli.main import COMMANDS, run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_tables_are_what_the_programs_printed():
    module = runpy.run_path(str(ROOT / "docs" / "readme.py"))
    assert module["rendered"](README) == README


def test_every_method_is_in_the_table():
    from theory.objectives import names

    assert set(re.findall(r"^\| `([a-z-]+)` \|", README, re.MULTILINE)) >= set(names())


def test_every_command_is_named():
    assert all(f"theory {command}" in README for command in COMMANDS)


def test_the_users_objective_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    Path("mine.py").write_text(code)
    commands = re.findall(r"^theory (.*mine\.py.*)$", README, re.MULTILINE)
    assert len(commands) == 3
    small = {"sweep": ["--n", "1e3,1e4", "--seeds", "2", "--vocab", "3", "--jobs", "1"], "degeneracy": ["--data-sets", "5"]}
    for command in commands:
        words = command.split()
        assert run([*words, *small.get(words[0], [])]) == 0
    assert "cautious" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()

"""What the README says is what the programs do."""

from __future__ import annotations

import json
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
    assert module["verdict_page"]() == (ROOT / "docs" / "verdicts.md").read_text()


def test_the_answers_are_what_the_programs_printed():
    module = runpy.run_path(str(ROOT / "docs" / "reviewers.py"))
    answers = json.loads((ROOT / "docs" / "reviewers.json").read_text())
    assert module["page"](answers) == (ROOT / "docs" / "reviewers.md").read_text()


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
    assert {command.split()[0] for command in commands} == {"audit", "simulate", "sweep", "degeneracy"}
    small = {"sweep": ["--n", "1e3,1e4", "--seeds", "2", "--vocab", "3", "--jobs", "1"], "degeneracy": ["--data-sets", "5"]}
    small["audit"] = ["--vocab", "3", "--contexts", "2"]
    for command in commands:
        words = command.split()
        assert run([*words, *small.get(words[0], [])]) == 0
    assert "cautious" in capsys.readouterr().out


def test_what_the_audit_finds_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    Path("mine.py").write_text(code)
    assert run(["audit", "--objective", "mine.py:cautious", "--vocab", "4", "--contexts", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["consistent"] is True
    assert found["hyperparameters"]["beta"] < 1e-4
    assert found["efficiency"] == pytest.approx(1, abs=1e-3)
    assert found["finite_on_separable"] is True


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()

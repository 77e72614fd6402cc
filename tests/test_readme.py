"""What the README says is what the programs do."""

from __future__ import annotations

import json
import math
import re
import runpy
import tomllib
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
    from figures.cli import app as figures
    from llm.cli.main import COMMANDS as LLM

    assert all(f"theory {command}" in README for command in COMMANDS)
    assert all(f"llm {command}" in README for command in LLM)
    assert all(f"figures {command.name or command.callback.__name__}" in README for command in figures.registered_commands)


def _constants():
    """Phrases of the README's prose with numbers in them, written anew from what the programs use."""
    from llm.config import RunArguments
    from theory.sampling.counts import LARGEST_DENSE_VOCAB, LARGEST_N
    from theory.solvers.newton import CERTIFIED
    from theory.solvers.options import Options

    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    run, power = RunArguments(), round(math.log10(LARGEST_N))
    responses = run.prompts * run.tokens**run.length
    yield f"Python ≥ {python.removeprefix('>=')}"
    yield f"({run.tokens} tokens, responses of {run.length}, {run.prompts} prompts)"
    yield f"asks {run.comparisons:,} comparisons"
    yield f"all {responses} responses are enumerated"
    yield f"to n = 10{str(power).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    yield f"Vocabularies above {LARGEST_DENSE_VOCAB:,} "
    yield f"(≤ {CERTIFIED:.0e})".replace("e-0", "e-")
    yield f"precision {Options().ridge:g} "


# Numbers that state no result, and why each may stand in the prose.
STRUCTURAL = {
    r"arXiv \d{4}\.\d{5}": "names a paper",
    r"App\. D\.1": "names a part of a paper",
    r"β → 0": "names a limit",
    r"exit code 2": "is the interface, which the tests of every command assert",
}
# What holds no number of ours: tables that a program wrote, code, the targets of links, comments.
ELSEWHERE = (
    r"<!-- (\w+): written by docs/readme\.py -->.*?<!-- end of \1 -->",
    r"^```.*?^```$",
    r"\]\([^)]*\)",
    r"<!--.*?-->",
    r"`[^`\n]*[A-Za-z][^`\n]*`",
)


def _numbers(readme: str) -> list[str]:
    """Numbers of the prose that neither a program printed nor a reason excuses."""
    for pattern in ELSEWHERE:
        readme = re.sub(pattern, " ", readme, flags=re.MULTILINE | re.DOTALL)
    readme = " ".join(readme.split())
    for phrase in _constants():
        readme = readme.replace(phrase, " ")
    for pattern in STRUCTURAL:
        readme = re.sub(pattern, " ", readme)
    return re.findall(r"\S*[\d½¼⁰¹²³⁴-⁹]\S*", readme)


def test_no_number_that_no_program_printed():
    assert _numbers(README) == []


@pytest.mark.parametrize("phrase", list(_constants()))
def test_constants_of_the_prose_are_those_of_the_programs(phrase):
    assert phrase in " ".join(README.split())


@pytest.mark.parametrize("claim", ["PMLE is 3.2 times better", "| x | 0.0836 |", "`0.5` nats", "at n = 10⁵ it wins"])
def test_a_number_of_ones_own_is_found(claim):
    assert len(_numbers(f"{README}\n{claim}\n")) == 1


def test_what_a_program_wrote_is_let_through_only_between_its_marks():
    assert _numbers(README.replace("<!-- end of speed -->", "")) != []


def test_the_gallery_is_what_the_figures_said():
    module = runpy.run_path(str(ROOT / "docs" / "gallery.py"))
    assert module["page"]() == (ROOT / "docs" / "figures.md").read_text()
    assert all((ROOT / "docs" / "figures" / f"{name}.png").exists() for name in module["records"]())
    assert sum(path.stat().st_size for path in (ROOT / "docs" / "figures").iterdir()) < 3_000_000


def test_the_gallery_has_every_figure_in_full():
    from figures import registry

    records = runpy.run_path(str(ROOT / "docs" / "gallery.py"))["records"]()
    assert sorted(records) == registry.names()
    assert not any(record["fast"] for record in records.values())


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

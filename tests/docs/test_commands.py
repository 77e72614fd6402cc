"""Every command of the README and of the pages exists, and those that take seconds run as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("theory", "llm", "figures", "paper-checks")

# Why a command is not run here, by what it begins with.
ELSEWHERE = {
    "make ": "sets up an environment of its own; CI runs make test",
    "pip install": "needs a package index; make test installs the same extra",
    "llm train drdo": "benchmarks/llm_train.py runs it as it is",
    "llm train dpo --model-name-or-path MODEL": "tests/llm/cli/test_train.py runs it on a model made there",
    "llm score --model ORACLE": "tests/llm/scoring runs it on a model made there",
    "llm train d-dpo --model-name-or-path MODEL": "tests/llm runs it with scores made there",
    "llm train pmle --config recipe.yaml": "tests/llm/cli/test_train.py launches it",
    "theory audit --objective mine.py:cautious": "tests/test_readme.py runs it with the README's function",
    "theory simulate --objective mine.py:cautious": "tests/test_readme.py runs it with the README's function",
    "theory sweep --methods rkl,dpo --objective mine.py:cautious": "tests/test_readme.py runs it with the README's function",
    "theory degeneracy --objective mine.py:cautious": "tests/test_readme.py runs it with the README's function",
    "figures build": "tests/figures/test_cli.py builds in a folder of its own",
    "figures data kl-against-n": "tests/figures/test_cli.py shows a table of its own",
}
# Pages whose commands a program runs whole: docs/reviewers.py, minutes of sweeps, and keeps what they print.
ANSWERED = ("reviewers.md",)


def _fenced(page: Path) -> list[str]:
    """The command lines of a page's shell blocks, comments left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = (re.sub(r"\s+#.*", "", line).strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def _named(page: Path) -> list[str]:
    """Commands within a sentence or a table: code that begins with a program and one of its words."""
    spans = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    return [span.replace("\\|", "|") for span in spans if re.match(rf"({'|'.join(PROGRAMS)}) [a-z]", span)]


FENCED = sorted({line for page in PAGES if page.name not in ANSWERED for line in _fenced(page)})
RUN = [line for line in FENCED if not line.startswith(tuple(ELSEWHERE))]
NAMED = sorted({line for page in PAGES for line in [*_fenced(page), *_named(page)] if line.split()[0] in PROGRAMS})


def _apps() -> dict[str, typer.Typer]:
    from figures.cli import app as figures
    from llm.cli.main import app as llm
    from paper_checks.cli import app as checks
    from theory.cli.main import app as theory

    return {"theory": theory, "llm": llm, "figures": figures, "paper-checks": checks}


APPS = {name: typer.main.get_command(app) for name, app in _apps().items()}


def _passed_on() -> set[str]:
    """Options that a command hands to an objective or to a trainer."""
    from llm import config
    from theory import objectives

    own = {p.option for name in objectives.names() for p in objectives.get(name).hyperparameters}
    keys = {*config.run_keys(), *config.training_keys(), *config.model_keys()}
    return own | {f"--{key.replace('_', '-')}" for key in keys}


@pytest.mark.parametrize("line", NAMED)
def test_a_command_exists_with_its_options(line):
    program, *words = shlex.split(line.replace("…", ""))
    command = APPS[program]
    while words and hasattr(command, "commands"):
        names = words.pop(0).split("|")
        assert set(names) <= set(command.commands), line
        command = command.commands[names[0]]
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = given - known - {"--help"}
    if command.context_settings.get("ignore_unknown_options"):
        unknown -= _passed_on()
    assert unknown == set(), line


def test_every_reason_is_used():
    assert [start for start in ELSEWHERE if not any(line.startswith(start) for line in FENCED)] == []


def test_what_is_not_run_here_is_no_other_commands_beginning():
    assert all(line.split()[0] in PROGRAMS for line in RUN)
    assert len(RUN) >= 4


@pytest.mark.parametrize("line", RUN)
def test_a_command_runs_as_printed(line, tmp_path, monkeypatch, capsys):
    from theory.cli import program

    monkeypatch.chdir(tmp_path)
    name, *words = shlex.split(line)
    assert program.run(_apps()[name], words) == 0
    assert capsys.readouterr().out

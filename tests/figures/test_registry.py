"""What every figure of the gallery keeps to."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys

import pytest

from figures import cache, registry
from figures.figure import RESULTS, Layout
from theory.errors import UserError

HEAVY = ("torch", "pandas", "matplotlib", "scipy", "theory.audit", "theory.objectives", "paper_checks", "llm")
# The programs that a command may start with, and where each is.
PROGRAMS = {"theory": "theory.cli.main", "llm": "llm.cli.main", "paper-checks": "paper_checks.cli", "figures": "figures.cli"}

names = pytest.mark.parametrize("name", registry.names())


@names
def test_a_figure_is_named_as_its_module_and_says_what_it_is(name):
    figure = registry.get(name)
    assert figure.name == name
    assert figure.data.__module__.rpartition(".")[2] == name.replace("-", "_")
    for words in (figure.title, figure.source):
        assert words.strip() == words != ""
        assert "\n" not in words
    assert importlib.import_module(figure.data.__module__).__doc__
    assert isinstance(figure.layout, Layout)
    assert figure.layout.rows * figure.layout.columns >= 1
    assert 1 <= figure.layout.height <= 9


@names
@pytest.mark.parametrize("which", ["config", "fast"])
def test_a_configuration_is_frozen_and_data(name, which):
    figure = registry.get(name)
    config = getattr(figure, which)
    assert type(config) is type(figure.config)
    assert config.__dataclass_params__.frozen
    hash(config)
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    assert {field.name for field in dataclasses.fields(config)} == set(stored)
    assert ("results" in stored) == (figure.results is not None)
    assert "results" not in cache.settings(figure, config)


@names
def test_the_command_of_missing_results_is_one_of_ours(name):
    figure = registry.get(name)
    if figure.results is None:
        return
    import typer

    ours, *_ = figure.results.command.split(" && ")  # after that it is copied
    program, name, *arguments = ours.split()
    command = typer.main.get_command(importlib.import_module(PROGRAMS[program]).app).commands[name]
    command.make_context(name, arguments)  # raises for an option that it lacks


def test_committed_results_are_there_and_small():
    read = [figure.results.file for figure in map(registry.get, registry.names()) if figure.results is not None]
    assert [file for file in sorted(set(read)) if not (RESULTS / file).is_file()] == []
    assert sum(path.stat().st_size for path in RESULTS.iterdir()) <= 2e6
    described = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert [file for file in read if file not in described] == []


def test_importing_every_figure_imports_nothing_heavy():
    program = f"""
import sys
from figures import cache, drawing, registry
for name in registry.names():
    figure = registry.get(name)
    if figure.results is None:
        cache.data_key(figure, figure.fast)
    drawing.digest(figure)
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_the_figures_of_the_papers_are_there():
    assert {"kl-against-n", "focal"} <= set(registry.names())
    assert registry.names() == sorted(registry.names())


def test_an_unknown_figure_names_the_nearest():
    with pytest.raises(UserError, match="NAME kl-against: did you mean kl-against-n"):
        registry.get("kl-against")


def test_a_module_with_an_underscore_is_no_figure(gallery):
    assert registry.names() == ["lines", "runs", "squares"]

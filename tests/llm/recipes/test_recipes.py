"""Every recipe, found by looking: sound, sourced, consistent with its header and with the papers' tables."""

from __future__ import annotations

import re
import shlex
from functools import cache

import pytest
import typer

from llm import recipes
from llm.config import resolve
from llm.plan import GIB, Machine, compute, plan
from llm.plan.shapes import FACTS
from llm.recipes.check import problems
from tests.llm.recipes.tables import RUNS

NAMES = recipes.names()
SOURCE = re.compile(r"Table \d|App\. [A-E]|§\d|Section \d|eq\. \d|Experiment Setup|Open Datasets|our default")
BATCH = re.compile(r"batch (\d+) × (\d+) × (\d+) = (\d+)")
GPUS = re.compile(r"# Machine: (\d+) GPUs of (\d+) GB")
# Rows of the local sets that recipes make: drdo Table 5; distillation, Open Datasets.
ROWS = {"data/tldr-splits/all": 44_709, "data/tldr-splits/hc_he": 10_136, "data/tldr-splits/lc_le": 10_000}

pytestmark = pytest.mark.parametrize("name", NAMES)


@cache
def text(name: str) -> str:
    return recipes.path_of(name).read_text(encoding="utf-8")


@cache
def values_of(name: str) -> dict:
    return recipes.load(name).values


@cache
def commands(name: str) -> list[list[str]]:
    """The commands in a recipe's header, split as a shell does; a loop's command too."""
    header = "\n".join(line[1:].strip() for line in text(name).split("\n\n")[0].split("\n"))
    lines = re.sub(r"\\\n", " ", header).split("\n")
    found = [re.sub(r"^(for .*; do|Then:) ", "", line).removesuffix("; done") for line in lines]
    return [shlex.split(line.split(" > ")[0]) for line in found if line.startswith("llm ")]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_sound(name):
    assert [str(error) for error in problems(name)] == []


def test_every_number_has_its_source(name):
    for line in text(name).split("\n"):
        key, _, rest = line.partition(":")
        value, _, comment = rest.partition("  # ")
        if re.fullmatch(r"\w+", key) and re.fullmatch(r"\s*[-+.\de]+\s*", value):
            assert SOURCE.search(comment), line


def test_what_the_text_lost_is_marked(name):
    """A comment that says that something is lost says how we read it, or that the value is ours."""
    for line in text(name).split("\n"):
        if re.search(r"\blost\b", line) and not line.startswith("#"):
            assert "as we read it" in line or "our default" in line, line


def test_the_batch_is_that_of_the_header(name):
    gpus, per_device, accumulation, batch = map(int, BATCH.search(text(name)).groups())
    values = values_of(name)
    assert (values["per_device_train_batch_size"], values["gradient_accumulation_steps"]) == (per_device, accumulation)
    assert gpus * per_device * accumulation == batch
    assert int(GPUS.search(text(name)).group(1)) == gpus


def test_it_fits_the_machine_of_its_header(name):
    gpus, size = map(int, GPUS.search(text(name)).groups())
    run = resolve(values_of(name))
    machine = Machine(compute.GPUS["a100"], gpus, size * GIB, 0.4)
    made = plan(run, machine, model=recipes.base_model(run.model), rows=ROWS.get(run.run.data))
    assert made.fits
    assert 0 < made.hours < 14 * 24


def test_a_run_starts_from_a_model_or_from_a_recipes_output(name):
    values = values_of(name)
    made = {values_of(other)["output_dir"]: other for other in NAMES}
    start = values["model_name_or_path"]
    if start.startswith("runs/"):
        assert f"#   the recipe {made[start]}" in text(name)
    assert recipes.base_model(values) in FACTS
    assert values["output_dir"] == f"runs/{name}"


def test_scores_are_made_by_the_header(name):
    values = values_of(name)
    made = {option(c, "--out"): c for c in commands(name) if c[:2] == ["llm", "score"]}
    for file in values.get("scores", []):
        if "armorm" in file:
            assert file in text(name).split("\n\n")[0]
            continue
        command = made[file]
        assert option(command, "--data") == values["data"]
        assert int(option(command, "--max-length")) == values["max_length"]
        if option(command, "--kind") == "reference":
            assert option(command, "--model") == values["model_name_or_path"]
    if values["data"].startswith("data/"):
        outs = [option(c, "--out") for c in commands(name) if c[:2] == ["llm", "data"]]
        assert any(values["data"] == out or values["data"].startswith(f"{out}/") for out in outs)


def test_an_ensemble_has_its_members(name):
    objective = resolve(values_of(name)).objective
    counts = [c.count("--model") for c in commands(name) if c[:2] == ["llm", "score"] and option(c, "--kind") == "reward"]
    if objective.needs_reward and counts:
        assert counts == [objective.ensemble]


def test_the_headers_commands_exist(name):
    from llm.cli.main import app

    root = typer.main.get_command(app)
    found = commands(name)
    assert ["llm", "recipes", "show", name] in found
    for words in found:
        command, rest = root, words[1:]
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            if word.startswith("--") and words[1] != "train":
                assert word in known, words
        if words[1] == "train":
            resolve({**values_of(name), **{"method": words[2]}})
            keys = {word[2:].replace("-", "_") for word in rest if word.startswith("--")} - {"config"}
            assert keys <= {"seed", "data", "scores", "output_dir"}


def test_it_is_a_run_of_the_papers(name):
    """The method, and the numbers that the papers print, typed in again from their tables."""
    values = values_of(name)
    expected = RUNS[name]
    gpus = int(GPUS.search(text(name)).group(1))
    actual = {
        **values,
        "batch": gpus * values["per_device_train_batch_size"] * values["gradient_accumulation_steps"],
        "full": not values.get("use_peft", False),
    }
    assert {key: actual.get(key) for key in expected} == expected

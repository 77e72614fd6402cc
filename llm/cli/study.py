"""What commands that train on the known-target world share: its options, theirs, and the bar of a study's runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.progress import Bar
from theory.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from llm.consistency.run import Done, Job
    from llm.consistency.study import Study
    from theory.instances.language import Language

Methods = Annotated[str, typer.Option("--methods", help="Objectives, separated by commas.")]
Beta = Annotated[
    str,
    typer.Option(
        "--beta",
        help="Of all methods, or METHOD=… of one, by commas: auto (0 where allowed, else 1), best (least floor) or a number.",
    ),
]
Logp = Annotated[str, typer.Option("--logp", help="sum, or mean over tokens, of log-probabilities in the loss.")]


@dataclass(frozen=True)
class World:
    """The known-target world."""

    tokens: Annotated[int, typer.Option("--tokens", help="Tokens of the language, T.")] = 6
    length: Annotated[int, typer.Option("--length", help="Tokens in a response, L.")] = 3
    prompts: Annotated[int, typer.Option("--prompts", help="Prompts, X.")] = 4
    order: Annotated[int, typer.Option("--order", help="Order of the Markov chains, 1 or 2.")] = 1
    gamma: options.Gamma = 1.0
    ref_noise: options.RefNoise = 0.5
    world_seed: Annotated[int, typer.Option("--world-seed", help="Seed of the language.")] = 0

    def draw(self) -> Language:
        """The language; raises `UserError` for a size or scale out of range."""
        from theory.instances.language import random_language

        sizes = {name: value for name, value in vars(self).items() if name != "world_seed"}
        return random_language(options.nonnegative("--world-seed", self.world_seed), **sizes)


@dataclass(frozen=True)
class Training:
    """How every transformer is trained."""

    max_steps: Annotated[int | None, typer.Option("--max-steps", help="Steps; 300, or 600 with a reward head.")] = None
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="At the start of a cosine; 1e-3, or 2e-3 with a reward head.")
    ] = None
    per_device_train_batch_size: Annotated[
        int | None, typer.Option("--per-device-train-batch-size", help="Comparisons in a step; 8192.")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """What was given."""
        return {name: value for name, value in vars(self).items() if value is not None}


def words(methods: str, objective: str | None) -> list[dict[str, str]]:
    """What names each method in a run's configuration."""
    found = [{"method": name.strip()} for name in methods.split(",") if name.strip()]
    return found + ([{"objective": objective}] if objective is not None else [])


def keys(given: list[str]) -> dict[str, str]:
    """Options that typer does not know: ``--name value`` or ``--name=value``."""
    found: dict[str, str] = {}
    rest = list(given)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise UserError(name, None, "is no option; options begin with --")
        if not equals and not rest:
            raise UserError(name, None, "needs a value")
        found[name[2:].replace("-", "_")] = value if equals else rest.pop(0)
    return found


def run(study: Study, out: Path, jobs: int, *, json: bool, job: Job | None = None) -> Done:
    """The study, its stages and its bar on standard error."""
    from llm.consistency.run import run_study

    def say(text: str) -> None:
        if sys.stderr.isatty() or not json:
            typer.echo(f"… {text}", err=True)

    with Bar("training") as bar:
        done = run_study(study, out, jobs=jobs, say=say, expect=bar.expect, report=bar.advance, job=job)
    if done.broken:
        typer.echo(f"{done.broken} results files were half-written and were computed again", err=True)
    if done.before:
        typer.echo(f"{done.before} of {done.total} runs were there already", err=True)
    return done

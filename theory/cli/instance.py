"""``theory instance new|show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from theory.cli import options
from theory.cli.console import number, print_json, print_table
from theory.cli.groups import RandomWorld, grouped
from theory.cli.language import RandomLanguage, language_facts

group = typer.Typer(help="Make and inspect tabular instances (.npz).", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.add_typer(group, name="instance")


@group.command("new")
@grouped
def new(
    out: Annotated[Path, typer.Argument(help="File to write (.npz).")],
    world: RandomWorld,
    language: RandomLanguage,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the instance.")] = 0,
    json: options.Json = False,
) -> None:
    """Draw a random instance (π* = softmax of normal logits, π_ref = the same with noise) and write it.

    With --language, the logits are those of the next token of strings, which a language model can learn too.
    """
    from theory.instances import save_instance, save_language

    options.nonnegative("--seed", seed)
    language.check(world)
    if language.language:
        save_language(language.draw(seed, world), out)
    else:
        save_instance(world.draw(seed), out)
    _describe(out, json)


@group.command("show")
def show(file: Annotated[Path, typer.Argument(help="An instance (.npz).")], json: options.Json = False) -> None:
    """Validate an instance and say what it is: sizes, distances, coverage, the statistical limit."""
    _describe(file, json)


def _describe(file: Path, json: bool) -> None:
    from theory.instances import load_instance
    from theory.reports import describe_instance

    facts = language_facts(file)
    if facts.get("enumerable", True):
        facts |= describe_instance(load_instance(file))
    if json:
        print_json({"file": str(file), **facts})
    else:
        rows = [
            (name.replace("_", " "), number(value) if isinstance(value, float) else str(value)) for name, value in facts.items()
        ]
        print_table(str(file), ("", ""), rows)

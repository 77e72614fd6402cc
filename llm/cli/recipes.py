"""``llm recipes``: the papers' runs as configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import print_json, print_table
from theory.cli.program import program


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = program("recipes", "The papers' runs, one YAML file each: list them, show one, check yours.")
    group.command("list")(list_recipes)
    group.command("show")(show)
    group.command("check")(check)
    app.add_typer(group, name="recipes")


def list_recipes(
    paper: Annotated[str | None, typer.Option("--paper", help="unified, drdo or distillation; all of them without.")] = None,
    json: options.Json = False,
) -> None:
    """Every recipe: its method, model and data."""
    from llm import recipes

    names = recipes.names(paper)
    records = [_summary(name) for name in names]
    if json:
        print_json(records)
        return
    print_table(None, ("recipe", "method", "source"), [(r["recipe"], r["method"], r["source"]) for r in records])
    typer.echo("`llm recipes show NAME > run.yaml` writes one to change; `llm plan NAME` says what it needs.")


def show(name: Annotated[str, typer.Argument(help="A recipe's name.")]) -> None:
    """One recipe, with the source of every number."""
    from llm import recipes

    typer.echo(recipes.path_of(name).read_text(), nl=False)


def check(
    files: Annotated[list[Path] | None, typer.Argument(help="YAML files; every recipe of ours without.")] = None,
    json: options.Json = False,
) -> None:
    """Check configurations: keys, types, ranges, method, shape; exit code 2 if one is unfit."""
    from llm import recipes
    from llm.recipes.check import problems

    names = [str(file) for file in files] if files else recipes.names()
    found = {name: [str(error) for error in problems(name)] for name in names}
    wrong = {name: errors for name, errors in found.items() if errors}
    if json:
        print_json([{"recipe": name, "problems": errors} for name, errors in found.items()])
    else:
        for name, errors in wrong.items():
            for error in errors:
                typer.echo(f"error: {name}: {error}", err=True)
        typer.echo(f"{len(found) - len(wrong)} of {len(found)} configurations are sound")
    if wrong:
        raise typer.Exit(2)


def _summary(name: str) -> dict[str, Any]:
    from llm import recipes

    recipe = recipes.load(name)
    about, _, source = recipe.title.rpartition(" (")
    values = recipe.values
    return {
        "recipe": name,
        "method": values["method"],
        "source": source.removesuffix(")"),
        "about": about,
        "model": recipes.base_model(values),
        "data": values["data"],
    }

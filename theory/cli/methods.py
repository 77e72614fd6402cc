"""``theory methods``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import print_json, print_table

if TYPE_CHECKING:
    from theory.objectives import Objective

NEEDS = {"ref_logp": "reference", "reward": "reward", "student_reward": "reward head", "length": "lengths"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("methods")(methods)


def methods(
    name: Annotated[str | None, typer.Argument(help="One objective, in full; all of them without.")] = None,
    objective: options.ObjectiveFile = None,
    json: options.Json = False,
) -> None:
    """Every objective: its equation, source, hyperparameters and what it needs."""
    from theory import objectives

    one = objectives.load(objective) if objective else objectives.get(name) if name else None
    found = [one] if one else [objectives.get(n) for n in objectives.names()]
    records = [describe(o) for o in found]
    if json:
        print_json(records)
    elif one:
        _print_one(records[0])
    else:
        columns = ("method", "equation", "hyperparameters", "needs")
        rows = [(r["name"], r["equation"], _short(r), ", ".join(r["needs"]) or "–") for r in records]
        print_table(None, columns, rows)
        typer.echo("`theory methods NAME` shows one in full.")


def describe(objective: Objective) -> dict[str, Any]:
    """An objective's metadata as a record."""
    needs = [word for quantity, word in NEEDS.items() if objective.reads(quantity)]
    needs += ["reward"] * (objective.needs_reward and "reward" not in needs)
    needs += ["on-policy samples"] * objective.on_policy
    needs += ["an ensemble of rewards"] * (objective.ensemble > 1)
    return {
        "name": objective.name,
        "title": objective.title,
        "equation": objective.sections.get("equation", ""),
        "source": objective.sections.get("source", ""),
        "limit": objective.sections.get("limit", ""),
        "note": objective.sections.get("note", ""),
        "needs": needs,
        "label_free": objective.label_free,
        "convex": objective.convex,
        "tuned": objective.tuned.name if objective.tuned else None,
        "hyperparameters": [
            {
                "name": p.name,
                "option": p.option,
                "default": p.default,
                "range": p.range,
                "meaning": p.about.meaning,
                "anneal": p.about.anneal,
            }
            for p in objective.hyperparameters
        ],
    }


def _short(record: dict[str, Any]) -> str:
    return ", ".join(f"{p['option'][2:]} = {p['default']:g}" for p in record["hyperparameters"]) or "–"


def _print_one(record: dict[str, Any]) -> None:
    rows = [(key, str(record[key])) for key in ("title", "equation", "source", "limit", "note") if record[key]]
    rows += [
        ("needs", ", ".join(record["needs"]) or "log-probabilities alone"),
        ("label-free", "yes" if record["label_free"] else "no"),
    ]
    for p in record["hyperparameters"]:
        anneal = f"; annealed {p['anneal'][0]:g} → {p['anneal'][1]:g} in training" if p["anneal"] else ""
        tuned = "; searched by --beta best and validation" if p["name"] == record["tuned"] else ""
        rows.append((p["option"], f"{p['meaning']} (default {p['default']:g}, {p['range']}{anneal}{tuned})"))
    print_table(record["name"], ("", ""), rows)

"""``theory degeneracy``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import number, print_json, print_table
from theory.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("degeneracy", context_settings=options.EXTRA)(degeneracy)


def degeneracy(
    context: typer.Context,
    method: options.Method = None,
    objective: options.ObjectiveFile = None,
    labels: Annotated[str, typer.Option("--labels", help="Labels for each pair, separated by commas.")] = "1,2,3,5,10",
    preference: Annotated[
        str, typer.Option("--preference", help="P(first beats second), separated by commas; 1 is deterministic.")
    ] = "1,0.9,0.5",
    pairs: Annotated[int, typer.Option("--pairs", help="Disjoint pairs.")] = 5,
    unseen: Annotated[int, typer.Option("--unseen", help="Responses in no pair.")] = 2,
    data_sets: Annotated[int, typer.Option("--data-sets", help="Independent data sets.")] = 400,
    beta: options.Beta = None,
    ridge: Annotated[float, typer.Option("--ridge", help="Bounds the estimate; small, so that it shows the limit.")] = 1e-6,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Fit an objective (default dpo) to disjoint pairs and say which mass goes where.

    As a function of labels a pair and of P(y ≻ y'), with the exact probability that a pair's labels are
    unanimous against simulation.
    """
    from theory.degeneracy import ROLES, Design
    from theory.degeneracy import degeneracy as compute
    from theory.process import use_threads

    if beta in ("best", "validation"):
        raise UserError("--beta", beta, "needs a target or held-out data; give a number")
    chosen = options.objective_of(method, objective, default="dpo")
    settings = options.settings_of(chosen, context.args, beta=beta, seed=seed)
    if not ridge > 0:
        raise UserError("--ridge", ridge, "must be positive: the masses are those of the bounded estimate")
    design = Design(pairs, unseen, data_sets, ridge, seed)
    use_threads(design.vocab, 1)
    grid = [(m, p) for p in _numbers("--preference", preference) for m in _whole("--labels", labels)]
    rows = [compute(chosen, settings.values, design, m, p) for m, p in grid]
    if json:
        print_json(
            {
                "method": chosen.name,
                "hyperparameters": chosen.resolve(settings.values),
                **vars(design),
                "rows": [_record(r) for r in rows],
            }
        )
        return
    table = [
        (
            number(r.preference),
            str(r.labels),
            number(r.exact, 3),
            f"{r.unanimous.value:.3f} ±{(r.unanimous.high - r.unanimous.low) / 2:.3f}",
            _share(r),
            *(f"{r.mass[role]:.3f}" for role in ROLES),
        )
        for r in rows
    ]
    columns = ("P", "m", "exact", "simulated", "finite", *(role + "s" * (role in ROLES[:2]) for role in ROLES))
    print_table(f"{chosen.name} on {pairs} disjoint pairs and {unseen} unseen responses", columns, table)
    typer.echo(
        "P: probability that the first of a pair is preferred; m: labels a pair; exact: Pᵐ + (1−P)ᵐ, the chance\n"
        "that they agree, and simulated; finite: data sets with a finite minimiser (a range where structure does not\n"
        "decide it for all); then the mean probability of responses that every label prefers (winners) or disprefers,\n"
        "of those labelled both ways, and of those in no pair."
    )


def _share(row: Any) -> str:
    """Data sets with a finite minimiser: a range where some are not decided."""
    return f"{row.finite:.0%}" if not row.undecided else f"{row.finite:.0%}–{row.finite + row.undecided:.0%}"


def _numbers(option: str, text: str) -> list[float]:
    return [options.parse_number(option, part) for part in text.split(",")]


def _whole(option: str, text: str) -> list[int]:
    values = _numbers(option, text)
    for value in values:
        if value != int(value):
            raise UserError(option, text, "must be whole numbers, such as 1,2,5")
    return [int(value) for value in values]


def _record(row: Any) -> dict[str, Any]:
    return {**vars(row), "unanimous": vars(row.unanimous)}

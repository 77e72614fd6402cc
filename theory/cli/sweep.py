"""``theory sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import floor_text, number, print_json, print_table
from theory.cli.groups import Fitting, World, grouped
from theory.cli.progress import Bar
from theory.errors import UserError

if TYPE_CHECKING:
    from theory.statistics.rates import Interval
    from theory.sweeps.summary import Line

DEFAULT_METHODS = "rlhf,rkl,pmle,pref-distill,drdo,dpo"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep", context_settings=options.EXTRA)(grouped(sweep))


def sweep(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory of the results; a second start continues it.")],
    methods: Annotated[str, typer.Option("--methods", help="Objectives, separated by commas.")] = DEFAULT_METHODS,
    objective: options.ObjectiveFile = None,
    n: Annotated[
        str, typer.Option("--n", help="Sizes as LOW:HIGH:COUNT (log-spaced) or a list, such as 1e3,1e5.")
    ] = "1e2:1e10:9",
    seeds: Annotated[int, typer.Option("--seeds", help="Data sets at each n.")] = 100,
    seed: options.Seed = 0,
    jobs: options.Jobs = -1,
    backend: Annotated[str, typer.Option("--backend", help="loky (this machine) or dask:ADDRESS (a cluster).")] = "loky",
    fitting: Fitting,
    world: World,
    json: options.Json = False,
) -> None:
    """Fit many methods at many n over many data sets; resumable, and safe to interrupt at any moment."""
    from theory.sweeps.plan import Plan
    from theory.sweeps.run import run_sweep
    from theory.sweeps.store import Store

    if seeds < 1:
        raise UserError("--seeds", seeds, "must be at least 1")
    options.check_jobs(jobs)
    objectives = [options.objective_of(name.strip(), None) for name in methods.split(",") if name.strip()]
    if objective is not None:
        objectives.append(options.objective_of(None, objective))
    if not objectives:
        raise UserError("--methods", methods, "name at least one; see theory methods")
    settings = [fitting.settings(o, _own(o, objectives, context.args), seed, beta=_beta(o, fitting.beta)) for o in objectives]
    plan = Plan(world.load(), tuple(settings), parse_sizes(n), seeds, seed)
    store = Store(out)
    with Bar("sweep") as bar:
        before = run_sweep(plan, store, jobs=jobs, backend=backend, expect=bar.expect, report=bar.advance)
    _tell(before)
    names = [chunk.name for chunk in plan.chunks()]
    _print(store, names, json)


def parse_sizes(text: str) -> tuple[float, ...]:
    """``LOW:HIGH:COUNT`` or a comma-separated list, as increasing whole numbers."""
    import numpy as np

    parts = text.split(":")
    if len(parts) == 3:
        low, high = options.parse_n(parts[0]), options.parse_n(parts[1])
        count = int(options.parse_number("--n", parts[2]))
        if count < 1 or high < low or np.isinf(high):
            raise UserError("--n", text, "must be LOW:HIGH:COUNT with LOW ≤ HIGH and COUNT ≥ 1, such as 1e2:1e10:9")
        sizes = np.round(np.geomspace(low, high, count)).tolist()
    elif len(parts) == 1:
        sizes = [options.parse_n(part) for part in text.split(",")]
    else:
        raise UserError("--n", text, "must be LOW:HIGH:COUNT or a list such as 1e3,1e5")
    # The population is always computed: it is the floor.
    finite = tuple(sorted({size for size in sizes if np.isfinite(size)}))
    if not finite:
        raise UserError("--n", text, "needs at least one finite size; the population is always computed")
    return finite


def _own(objective: Any, objectives: list[Any], extra: list[str]) -> list[str]:
    """The options among ``extra`` that are this objective's hyperparameters; unknown to all is an error."""
    every = {p.option for o in objectives for p in o.hyperparameters}
    mine = {p.option for p in objective.hyperparameters}
    own: list[str] = []
    rest = list(extra)
    while rest:
        option = rest.pop(0)
        name, equals, _ = option.partition("=")
        value = [] if equals or not rest else [rest.pop(0)]
        if name in mine or name not in every:
            own += [option, *value]
    return own


def _beta(objective: Any, beta: str | None) -> str | None:
    """A number for β applies to the methods that have one; the others keep their own rule."""
    has = any(p.name == "beta" for p in objective.hyperparameters)
    return beta if has or beta in ("best", "validation") else None


def _tell(before: Any) -> None:
    if before.broken:
        typer.echo(f"{before.broken} results files were half-written and were computed again", err=True)
    if before.done:
        typer.echo(f"{before.done} of {before.total} chunks were there already", err=True)


def _print(store: Any, names: list[str], json: bool) -> None:
    from theory.sweeps.summary import curves, summarise

    constant = store.manifest()["asymptotic_constant"]
    lines = [summarise(curve, constant) for curve in curves(store.read(names).to_pylist())]
    if json:
        print_json({"out": str(store.root), "asymptotic_constant": constant, "methods": [_record(line) for line in lines]})
        return
    rows = [
        (
            line.label,
            _interval(line.slope, ".3f"),
            floor_text(line.floor),
            _interval(line.efficiency, ".3g"),
            _percent(line.finite),
            line.verdict,
        )
        for line in lines
    ]
    first = lines[0]
    print_table(f"results in {store.root}", ("method", "slope", "floor (nats)", "efficiency", "finite", "verdict"), rows)
    typer.echo(
        "slope of log KL against log n over the upper half of the decades, efficiency c/(n·KL) at\n"
        f"n = {number(first.largest_n)}, each with a 95% interval; finite: data sets at\n"
        f"n = {number(first.smallest_n)} with a finite minimiser, ridge apart."
    )


def _record(line: Line) -> dict[str, Any]:
    numbers = {name: vars(value) if hasattr(value, "low") else value for name, value in vars(line).items()}
    return {**numbers, "verdict": line.verdict}


def _interval(interval: Interval, form: str) -> str:
    return f"{interval.value:{form}} ±{(interval.high - interval.low) / 2:.1g}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == share else "–"

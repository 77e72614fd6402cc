"""``theory simulate``."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import floor_text, number, print_json, print_table
from theory.cli.groups import Fitting, World, grouped

# Data sets and sample sizes behind the curve of --picture.
PICTURE_SEEDS, PICTURE_SIZES = 20, tuple(10**k for k in range(2, 10))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate", context_settings=options.EXTRA)(grouped(simulate))


def simulate(
    context: typer.Context,
    *,
    method: options.Method = None,
    objective: options.ObjectiveFile = None,
    n: Annotated[str, typer.Option("--n", help="Comparisons, such as 1e5; inf for the population limit.")] = "1e5",
    fitting: Fitting,
    world: World,
    seed: options.Seed = 0,
    policy_out: Annotated[Path | None, typer.Option("--policy-out", help="Write the fitted policy (.npz).")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw forward KL against n with this fit on it (.png, .pdf or .svg).")
    ] = None,
    json: options.Json = False,
) -> None:
    """Draw comparisons from an instance, fit an objective, and measure it against the target.

    The objective's own hyperparameters are options too: --alpha, --tau, --gamma-f, … (see `theory methods`).
    """
    size = options.parse_n(n)
    options.writable("--policy-out", policy_out)
    options.writable("--picture", picture)
    chosen = options.objective_of(method, objective)
    settings = fitting.settings(chosen, context.args, seed)
    drawn = world.load()
    if picture is not None:
        from theory.plotting import check_format

        check_format(picture, "--picture")
    record, outcome = _run(drawn, settings, size, seed)
    if policy_out is not None:
        _write_policy(policy_out, outcome, record)
    if picture is not None:
        record |= {"slope": _draw(picture, drawn, settings, record)}
    if json:
        print_json(record)
    else:
        _print(record, policy_out, picture)


def _run(world: Any, settings: Any, n: float, seed: int) -> tuple[dict[str, Any], Any]:
    from theory.process import use_threads
    from theory.reports import describe_outcome
    from theory.simulation import draw_data, floor, make_task, solve

    use_threads(world.vocab, world.contexts)
    start = time.perf_counter()
    outcome = solve(world, make_task(world, draw_data(world, n, seed), settings), settings)
    seconds = time.perf_counter() - start
    limit = float(outcome.forward_kl[0]) if math.isinf(n) else floor(world, settings)
    return describe_outcome(world, settings, outcome, seed, limit, seconds), outcome


def _write_policy(path: Path, outcome: Any, record: dict[str, Any]) -> None:
    import numpy as np

    from theory.errors import UserError
    from theory.instances import save_npz

    if record["finite"] is False and record["ridge"] == 0:
        raise UserError("--policy-out", path, "there is no finite policy to write: use --ridge above 0 for a bounded estimate")
    arrays: dict[str, object] = {"policy": np.exp(outcome.logp[0]), "log_policy": outcome.logp[0]}
    if outcome.student is not None:
        arrays["reward"] = outcome.student[0]
    save_npz(path, arrays, "--policy-out")


def _draw(path: Path, world: Any, settings: Any, record: dict[str, Any]) -> dict[str, float]:
    """Draw the method's curve; its slope with a 95% interval."""
    from theory.plotting import picture
    from theory.sweeps.run import curve
    from theory.sweeps.summary import curves, summarise

    rows = curve(world, settings, PICTURE_SIZES, PICTURE_SEEDS)
    title = f"{record['method']}: V = {record['vocab']}, X = {record['contexts']}, γ = {record['gamma']:g}"
    mark = (float(record["n"]), record["forward_kl"])
    picture(rows, path, constant=record["asymptotic_constant"], title=title, mark=mark, argument="--picture")
    (drawn,) = curves(rows)
    line = summarise(drawn, record["asymptotic_constant"])
    return {**vars(line.slope), "from_n": line.slope_from, "to_n": line.largest_n}


def _print(record: dict[str, Any], policy_out: Path | None, picture: Path | None) -> None:
    world = f"{record['instance']}, V = {record['vocab']}, X = {record['contexts']}"
    title = f"{record['method']} on {number(float(record['n']))} comparisons, {world}"
    floor = record["floor"]
    rows = [
        ("forward KL to the target", f"{number(record['forward_kl'])} nats"),
        ("its floor at n = ∞", f"{floor_text(floor)} nats"),
        ("Cramér–Rao limit c/n", f"{number(record['cramer_rao'])} nats"),
        ("efficiency c/(n·KL)", number(record["efficiency"], 3)),
        ("reverse KL", f"{number(record['reverse_kl'])} nats"),
        ("total variation", number(record["total_variation"])),
        (record["tuned"] or "hyperparameters", _hyper(record)),
        ("finite minimiser without the ridge", _finite(record)),
        ("certificate", _certificate(record)),
        ("seconds", number(record["seconds"], 2)),
    ]
    if "slope" in record:
        slope = record["slope"]
        speed = f"{slope['value']:.3f} ±{(slope['high'] - slope['low']) / 2:.1g} over n = {slope['from_n']:g} … {slope['to_n']:g}"
        rows.insert(4, ("slope of log KL against log n", speed))
    print_table(title, ("", ""), rows)
    if policy_out is not None:
        typer.echo(f"policy written to {policy_out}")
    if picture is not None:
        typer.echo(f"picture written to {picture}")


def _hyper(record: dict[str, Any]) -> str:
    values = dict(record["hyperparameters"])
    rule = {"best": "best: knows the target", "validation": "chosen on held-out preferences", "fixed": "fixed"}[
        record["beta_rule"]
    ]
    tuned = record["tuned"]
    first = f"{number(values.pop(tuned))} ({rule})" if tuned else ""
    rest = ", ".join(f"{name.rstrip('_')} = {number(value)}" for name, value in values.items())
    return "; ".join(part for part in (first, rest) if part) or "none"


def _finite(record: dict[str, Any]) -> str:
    if record["finite"] is None:
        return "not decided by structure"
    if record["finite"]:
        return "yes"
    if record["vanishing"] is None:
        return "no: the class separates the comparisons"
    count = len(record["vanishing"])
    what = f"no: {count} of {record['vocab'] * record['contexts']} probabilities go to 0"
    return what + (f"; the estimate is bounded by --ridge {record['ridge']:g}" if record["ridge"] else "; --ridge bounds it")


def _certificate(record: dict[str, Any]) -> str:
    from theory.solvers.newton import CERTIFIED

    grade = "≤" if record["gradient_norm"] <= CERTIFIED else "NOT CERTIFIED: above"
    starts = f", {record['agreeing_starts']} of {record['starts']} starts agree" if record["certificate"] == "local" else ""
    gradient = f"gradient {record['gradient_norm']:.1e} {grade} {CERTIFIED:g}"
    return f"{record['certificate']}, {gradient}, {record['iterations']} steps{starts}"

"""``theory fit``."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theory.cli import options
from theory.cli.console import print_json
from theory.cli.fitted import print_fit, record, write_policy
from theory.errors import UserError

if TYPE_CHECKING:
    from theory.fitting import FittedData
    from theory.sampling.comparisons import Comparisons
    from theory.simulation import Settings

# Seconds before a terminal is shown what is going on.
PATIENCE = 2.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fit", context_settings=options.EXTRA)(fit)


def fit(
    context: typer.Context,
    data: Annotated[
        Path, typer.Option("--data", help="Comparisons (.csv, .jsonl or .parquet): context, chosen, rejected and optional count.")
    ],
    method: options.Method = None,
    objective: options.ObjectiveFile = None,
    gamma: options.Gamma = 1.0,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="π_ref: context, response and probability or logprob; uniform without it."),
    ] = None,
    beta: Annotated[
        str | None, typer.Option("--beta", help="validation (held-out preferences; the default) or a number.")
    ] = None,
    ridge: options.Ridge = options.DEFAULT_RIDGE,
    reward_head: options.RewardHead = "separate",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the held-out split and of bootstrap ensembles.")] = 0,
    confidence: Annotated[float, typer.Option("--confidence", help="Coverage of the intervals.")] = 0.95,
    top: Annotated[int, typer.Option("--top", help="Responses shown in each context.")] = 3,
    policy_out: Annotated[Path | None, typer.Option("--policy-out", help="Write the fitted policy (.npz).")] = None,
    json: options.Json = False,
) -> None:
    """Fit an objective to your own comparisons; no target needs to be known.

    The objective's own hyperparameters are options too: --alpha, --tau, --gamma-f, … (see `theory methods`).
    """
    start = time.perf_counter()
    chosen = options.objective_of(method, objective)
    settings = options.settings_of(
        chosen, context.args, beta=beta or "validation", ridge=ridge, reward_head=reward_head, seed=seed
    )
    _check(beta, gamma, confidence, top)
    options.writable("--policy-out", policy_out)
    with _patience() as progress:
        fitted, rule = _fit(data, reference, settings, beta, gamma, confidence, progress)
    if policy_out is not None:
        write_policy(policy_out, fitted)
    if json:
        print_json(record(fitted, rule, data, time.perf_counter() - start))
    else:
        print_fit(fitted, rule, data, time.perf_counter() - start, top, policy_out)


def _check(beta: str | None, gamma: float, confidence: float, top: int) -> None:
    if beta == "best":
        raise UserError("--beta", beta, "needs a known target; use validation or a number")
    if not (math.isfinite(gamma) and gamma > 0):
        raise UserError("--gamma", gamma, "must be positive and finite")
    if not 0 < confidence < 1:
        raise UserError("--confidence", confidence, "must lie between 0 and 1, such as 0.95")
    if top < 1:
        raise UserError("--top", top, "must be at least 1")


def _fit(
    data: Path,
    reference: Path | None,
    settings: Settings,
    beta: str | None,
    gamma: float,
    confidence: float,
    progress: Callable[[str], None],
) -> tuple[FittedData, str]:
    """The fit, and how its tuned hyperparameter was chosen."""
    import numpy as np

    from theory import fitting
    from theory.process import use_threads
    from theory.sampling.comparisons import read_comparisons, read_reference

    progress(f"reading {data}")
    comparisons = read_comparisons(data)
    use_threads(int(np.diff(comparisons.offsets).max()), len(comparisons.offsets) - 1)
    policy = None if reference is None else read_reference(reference, comparisons)
    settings, rule = _rule(settings, beta, comparisons)
    return fitting.fit(comparisons, settings, gamma, policy, confidence, progress), rule


def _rule(settings: Settings, beta: str | None, comparisons: Comparisons) -> tuple[Settings, str]:
    """Without ``--beta``: validation where the data allow it, else the method's default."""
    from theory.fitting import FEWEST_TO_VALIDATE, repeated

    if settings.searched is None:
        return settings, "fixed"
    if beta is None and repeated(comparisons) < FEWEST_TO_VALIDATE:
        return replace(settings, rule="fixed"), "default"
    return settings, settings.rule


@contextmanager
def _patience(delay: float = PATIENCE) -> Iterator[Callable[[str], None]]:
    """Say on a terminal what is being done, if it takes long."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    stage = bar.add_task("")
    timer = threading.Timer(delay, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda text: bar.update(stage, description=text)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()

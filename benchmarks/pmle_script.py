"""PMLE at ten million comparisons against the script that people write for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from benchmarks.environment import cores
from benchmarks.record import Measure, Record
from benchmarks.timing import median_seconds, threads
from theory.instances import Instance, random_instance
from theory.objectives import get
from theory.sampling import WinCounts
from theory.simulation import Outcome, Settings, draw_data, make_task, solve
from theory.solvers.options import Options

SETTINGS = Settings(get("pmle"), {"beta": 0.0}, options=Options(ridge=0.0))
RATES = (0.05, 0.1, 0.3)
CLOSE = 1e-6
CAP_STEPS, CAP_SECONDS = 2_000, 240.0
OUR_REPETITIONS = 9


def benchmark(quick: bool) -> Record:
    n, smaller = (1e5, 1e5) if quick else (1e7, 1e5)
    repetitions = 1 if quick else 3
    instance = random_instance()
    with threads(cores()):
        steps = {rate: _against_optimum(instance, smaller, rate)[0].steps for rate in RATES}
        rate = min(steps, key=lambda r: steps[r])
        ours = median_seconds(lambda: _fit(instance, n), OUR_REPETITIONS)
        runs: list[Script] = []
        value = 0.0
        # The script runs again only if it is short enough to be worth a median.
        while len(runs) < repetitions and not any(r.stopped or r.seconds > CAP_SECONDS / 3 for r in runs):
            found, value = _against_optimum(instance, n, rate)
            runs.append(found)
    with threads(1):
        single = median_seconds(lambda: _fit(instance, n), OUR_REPETITIONS)
    stopped = any(r.stopped for r in runs)
    script = median(r.seconds for r in runs)
    return Record(
        "pmle_script",
        f"PMLE without KL (β = 0, γ = {instance.gamma:g}, no ridge) on n = {n:g} comparisons of the default instance "
        f"(V = {instance.vocab}, X = {instance.contexts}). The script holds the same data as a tensor of index triples and runs "
        f"full-batch Adam on a float64 table of logits, from π_ref until its loss is within {CLOSE:g} of our optimum, with the "
        f"learning rate among {', '.join(f'{r:g}' for r in RATES)} that needed the fewest steps at n = {smaller:g}; only its "
        f"optimisation is timed. Our time includes the drawing of the data and everything that `solve` reports. Both on "
        f"{cores()} threads, torch's default here; ours on one thread is in the details.",
        (
            Measure("script's time over ours", script / ours, "x", 1000.0, at_most=False, lower_bound=stopped),
            Measure("our time, draw included", ours, "s"),
            Measure("script's time", script, "s", lower_bound=stopped),
        ),
        {
            "n": n,
            "script_runs": len(runs),
            "script_steps": runs[0].steps,
            "script_stopped_by_cap": stopped,
            "script_excess_loss": runs[0].excess,
            "seconds_per_step": script / runs[0].steps,
            "learning_rate": rate,
            "steps_at_smaller_n": {f"{r:g}": count for r, count in steps.items()},
            "smaller_n": smaller,
            "our_loss": value,
            "our_repetitions": OUR_REPETITIONS,
            "our_seconds_on_one_thread": single,
            "torch_threads": cores(),
        },
    )


@dataclass(frozen=True)
class Script:
    """How the script ended: ``stopped`` by a cap, ``excess`` nats above our optimum."""

    seconds: float
    steps: int
    excess: float
    stopped: bool


def _fit(instance: Instance, n: float) -> tuple[WinCounts, Outcome]:
    data = draw_data(instance, n, 0)
    assert isinstance(data, WinCounts)
    return data, solve(instance, make_task(instance, data, SETTINGS), SETTINGS)


def _against_optimum(instance: Instance, n: float, rate: float) -> tuple[Script, float]:
    data, outcome = _fit(instance, n)
    pairs = _pairs(data)
    with torch.no_grad():
        optimum = float(_loss(torch.from_numpy(outcome.logp[0]), pairs, instance.gamma))
    start = torch.from_numpy(np.log(instance.reference))
    return _script(start, pairs, instance.gamma, rate, optimum), optimum


def _pairs(data: WinCounts) -> Tensor:
    """Every comparison as a column (context, chosen, rejected), in random order."""
    cells = np.argwhere(data.wins[0] > 0)
    every = np.repeat(cells, data.wins[0][tuple(cells.T)].astype(np.int64), axis=0)
    np.random.default_rng(0).shuffle(every)
    return torch.from_numpy(np.ascontiguousarray(every.T))


def _loss(logits: Tensor, pairs: Tensor, gamma: float) -> Tensor:
    context, chosen, rejected = pairs
    logp = logits.log_softmax(-1)
    return -logsigmoid(gamma * (logp[context, chosen] - logp[context, rejected])).mean()


def _script(start: Tensor, pairs: Tensor, gamma: float, rate: float, optimum: float) -> Script:
    logits = start.clone().requires_grad_()
    adam = torch.optim.Adam([logits], lr=rate)
    began = time.perf_counter()
    step, excess, seconds = 0, np.inf, 0.0
    while step < CAP_STEPS and seconds <= CAP_SECONDS:
        step += 1
        adam.zero_grad()
        loss = _loss(logits, pairs, gamma)
        excess, seconds = loss.item() - optimum, time.perf_counter() - began
        if excess <= CLOSE:
            break
        loss.backward()
        adam.step()
    return Script(seconds, step, excess, excess > CLOSE)

"""Whether the time depends on n."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.record import Measure, Record
from benchmarks.timing import seconds, threads
from theory.instances import random_instance
from theory.objectives import get
from theory.simulation import Settings, draw_data, make_task, solve

SMALL, LARGE = 1e3, 1e10
METHODS = ("rkl", "pmle")


def benchmark(quick: bool) -> Record:
    seeds, repetitions = (5, 1) if quick else (50, 5)
    instance = random_instance()
    measures: list[Measure] = []
    details: dict[str, Any] = {"seeds": seeds, "repetitions": repetitions, "torch_threads": 1}
    with threads(1):
        for method in METHODS:
            settings = Settings(get(method))

            def fit(n: float, settings: Settings = settings) -> None:
                data = draw_data(instance, n, 0, range(seeds))
                solve(instance, make_task(instance, data, settings), settings)

            fit(SMALL)
            # Interleaved, so that a slow spell of the machine meets both.
            times = [(seconds(lambda: fit(SMALL)), seconds(lambda: fit(LARGE))) for _ in range(repetitions)]
            small, large = (median(column) for column in zip(*times, strict=True))
            measures.append(Measure(f"{method}: time at n = {LARGE:g} over n = {SMALL:g}", large / small, "x", target=1.5))
            details[f"{method}_seconds"] = {f"{SMALL:g}": small, f"{LARGE:g}": large}
    return Record(
        "sample_size",
        f"Time to draw {seeds} data sets from the default instance (V = {instance.vocab}, X = {instance.contexts}) and fit them "
        f"together, β chosen by its default rule, at n = {LARGE:g} over n = {SMALL:g}: medians of {repetitions} interleaved "
        "repetitions in one process and on one thread, as a sweep's worker runs.",
        tuple(measures),
        details,
    )

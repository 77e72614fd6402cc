"""A language model's vocabulary."""

from __future__ import annotations

from benchmarks.large import simulate
from benchmarks.record import Measure, Record

METHODS: dict[str, dict[str, float]] = {"rkl": {}, "pmle": {"beta": 0.1}}


def benchmark(quick: bool) -> Record:
    vocab, n = (2_000, "1e5") if quick else (50_257, "1e6")
    repetitions = 1 if quick else 3
    found = {
        method: simulate(repetitions, method=method, vocab=vocab, contexts=1, n=n, **extra) for method, extra in METHODS.items()
    }
    measures = []
    for method, result in found.items():
        measures.append(Measure(f"{method}: wall time", result["wall_seconds"], "s", target=60.0))
        measures.append(Measure(f"{method}: peak resident memory", result["peak_rss_mib"], "MiB", target=2048.0))
    return Record(
        "sparse",
        f"`theory simulate` in a fresh process at V = {vocab:,}, X = 1, n = {n}: imports, instance, draw, reward fit, policy, "
        "its statistics and its floor. RKL with β chosen by its default rule; PMLE with "
        f"β = {METHODS['pmle']['beta']:g}. Median wall time and largest memory (the kernel's high-water mark of resident memory, "
        f"VmHWM) of {repetitions}. fit_seconds is the command's own figure, without start-up and floor.",
        tuple(measures),
        found,
    )

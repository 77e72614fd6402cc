"""The largest table of pairs that is held whole."""

from __future__ import annotations

from benchmarks.large import simulate
from benchmarks.record import Measure, Record

BETA = {"rkl": 0.05, "pmle": 0.01}
CONTEXTS = (1, 10)


def benchmark(quick: bool) -> Record:
    vocab, n = (100, "1e5") if quick else (1_000, "1e6")
    found = {
        f"{method}, X = {contexts}": simulate(1, method=method, vocab=vocab, contexts=contexts, n=n, beta=beta)
        for method, beta in BETA.items()
        for contexts in CONTEXTS
    }
    measures = []
    for name, result in found.items():
        measures.append(Measure(f"{name}: time of draw and fit", result["fit_seconds"], "s"))
        measures.append(Measure(f"{name}: wall time of the command", result["wall_seconds"], "s"))
        measures.append(Measure(f"{name}: peak resident memory", result["peak_rss_mib"], "MiB"))
    return Record(
        "dense_large",
        f"`theory simulate` in a fresh process at V = {vocab:,}, n = {n} and a fixed β (the methods' defaults), once each. The "
        "command also fits the population for its floor, which is why its wall time exceeds that of the draw and fit. Memory is "
        "the kernel's high-water mark of resident memory (VmHWM). Recorded without a target.",
        tuple(measures),
        found,
    )

"""How long a first command takes in a fresh process."""

from __future__ import annotations

import sys
from statistics import median

from benchmarks.processes import THEORY, run
from benchmarks.record import Measure, Record

SIMULATE = ["simulate", "--method", "rkl", "--n", "1e5"]


def benchmark(quick: bool) -> Record:
    repetitions = 1 if quick else 5
    simulate = [run([sys.executable, "-m", "theory", *SIMULATE]).seconds for _ in range(repetitions)]
    help_page = [run([THEORY, "--help"]).seconds for _ in range(repetitions)]
    return Record(
        "cold_start",
        "Wall time of `python -m theory simulate --method rkl --n 1e5` and of `theory --help`, each in a fresh process: "
        f"median of {repetitions}. The files are in the system's cache except perhaps in the first repetition.",
        (
            Measure("simulate rkl", median(simulate), "s", target=3.0),
            Measure("help", median(help_page), "s", target=0.6),
        ),
        {"repetitions": repetitions, "simulate_seconds": simulate, "help_seconds": help_page},
    )

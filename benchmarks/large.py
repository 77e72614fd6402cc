"""One `theory simulate` in a fresh process on a large vocabulary: time and peak memory."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from benchmarks.processes import THEORY, run


def simulate(repetitions: int, **options: object) -> dict[str, Any]:
    """Median seconds and largest memory of repeated runs, and what the fit reported of itself."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    runs = [run([THEORY, "simulate", *words, "--json"], memory=True) for _ in range(repetitions)]
    reports = [json.loads(r.output) for r in runs]
    return {
        "command": " ".join(["theory simulate", *words]),
        "wall_seconds": median(r.seconds for r in runs),
        "fit_seconds": median(report["seconds"] for report in reports),
        "peak_rss_mib": max(r.peak_rss for r in runs),
        "gradient_norm": reports[0]["gradient_norm"],
        "hyperparameters": reports[0]["hyperparameters"],
        "repetitions": repetitions,
    }

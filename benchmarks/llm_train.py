"""``llm train drdo`` from nothing, as a new user types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.processes import run
from benchmarks.record import Measure, Record

LLM = str(Path(sys.executable).parent / "llm")
# Reduced sizes, to see that it runs.
QUICK = ["--max-steps", "20", "--comparisons", "1000"]
DISTANCES = ("forward_kl_before", "forward_kl_after", "floor")


def benchmark(quick: bool) -> Record:
    repetitions = 1 if quick else 3
    runs = [_train(QUICK if quick else []) for _ in range(repetitions)]
    help_page = [run([LLM, "--help"]).seconds for _ in range(1 if quick else 5)]
    records = [record for _, record in runs]
    return Record(
        "llm_train",
        "Wall time of `python -m llm train drdo` in a fresh process and an empty folder, on the known-target world: the "
        "language, the reference transformer, the comparisons, the reward model and the student are all made, and the student's "
        f"distance to the target is summed over all responses (median of {repetitions}); and of `llm --help` (median of "
        f"{len(help_page)}).",
        (
            Measure("train drdo, from nothing", median(seconds for seconds, _ in runs), "s", target=120.0),
            Measure("help", median(help_page), "s", target=0.6),
        ),
        {
            "repetitions": repetitions,
            "train_wall_seconds": [seconds for seconds, _ in runs],
            "train_own_seconds": [record["seconds"] for record in records],
            "help_seconds": help_page,
            "steps": records[0]["steps"],
            "pairs": records[0]["pairs"],
            "nats": {name: records[0][name] for name in DISTANCES},
            "forward_kl_after_of_all_repetitions": [record["forward_kl_after"] for record in records],
        },
    )


def _train(extra: list[str]) -> tuple[float, dict[str, Any]]:
    """One run's wall time and the object that it prints."""
    with TemporaryDirectory() as folder:  # the fitted reference is kept beside the output, so it is fresh too
        found = run([sys.executable, "-m", "llm", "train", "drdo", "--output-dir", f"{folder}/drdo", "--json", *extra])
    return found.seconds, json.loads(found.output)

"""How long the truth about one objective takes, and about all of them."""

from __future__ import annotations

import json
import sys

from benchmarks.processes import run
from benchmarks.record import Measure, Record

AUDIT = [sys.executable, "-m", "theory", "audit"]


def benchmark(quick: bool) -> Record:
    one = run([*AUDIT, "rkl"]).seconds
    small = ["--vocab", "4", "--contexts", "3"] if quick else []
    every = run([*AUDIT, "--all", "--json", *small])
    records = json.loads(every.output)
    ratios = {r["method"]: _ratio(r) for r in records if r["asymptotic_constant"] is not None}
    worst = max(ratios, key=lambda name: abs(ratios[name] - 1))
    return Record(
        "audit",
        "Wall time of `python -m theory audit rkl` and of `theory audit --all --json`, each in a fresh process; and the "
        "simulated asymptotic constant over that of the delta method, for the method where they differ most.",
        (
            Measure("audit rkl", one, "s", target=30.0),
            Measure("audit --all", every.seconds, "s", target=600.0),
            Measure("largest |simulated/delta − 1|", abs(ratios[worst] - 1), "", target=0.05),
        ),
        {"seconds": {r["method"]: r["seconds"] for r in records}, "simulated_over_delta": ratios, "worst": worst},
    )


def _ratio(record: dict) -> float:
    verdict = next(v for v in record["verdicts"] if v["id"] == "rate.constant")
    return float(verdict["numbers"]["ratio"])

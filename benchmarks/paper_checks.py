"""How long the claims of the papers take to check."""

from __future__ import annotations

import json
import sys

from benchmarks.processes import run
from benchmarks.record import Measure, Record

CHECKS = [sys.executable, "-m", "paper_checks", "run", "--json"]


def benchmark(quick: bool) -> Record:
    fast = run([*CHECKS, "--fast"])
    full = fast if quick else run(CHECKS)
    results = json.loads(full.output)
    differ = sum(r["verdict"] != r["recorded"] for r in results)
    return Record(
        "paper_checks",
        "Wall time of `python -m paper_checks run --fast` (CI's set) and of the full set, each in a fresh process, on all cores.",
        (
            Measure("fast set", fast.seconds, "s", target=45.0),
            Measure("full set", full.seconds, "s", target=300.0),
            Measure("verdicts that differ from the record", float(differ), "", target=0.0),
        ),
        {
            "claims": len(results),
            "fast_claims": len(json.loads(fast.output)),
            "seconds": {r["id"]: r["seconds"] for r in results},
        },
    )

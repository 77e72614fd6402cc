"""The sweep that `theory sweep` runs if nothing is asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.processes import PERIOD, THEORY, Run, run
from benchmarks.record import Measure, Record
from theory.sweeps.store import Store

QUICK = ["--seeds", "4", "--n", "1e3,1e6"]


def benchmark(quick: bool) -> Record:
    repetitions = 1 if quick else 3
    options = QUICK if quick else []
    runs = [_sweep(options, memory=False)[0] for _ in range(repetitions)]
    sampled, rows = _sweep(options, memory=True)
    return Record(
        "default_sweep",
        f"`theory sweep` as it comes ({rows['methods']} methods × {rows['sizes']} sizes × {rows['seeds']} seeds, and every "
        f"method's population) into an empty directory: median wall time of {repetitions}, and the largest memory of the whole "
        "process tree in one further run. Memory is the sum of proportional set sizes (PSS in /proc/PID/smaps_rollup: a page "
        f"that processes share counts once), sampled every {PERIOD:g} s.",
        (
            Measure("wall time", median(r.seconds for r in runs), "s", target=60.0),
            Measure("peak memory of the process tree (PSS)", sampled.tree_pss, "MiB", target=1024.0),
        ),
        {
            "repetitions": repetitions,
            "wall_seconds": [r.seconds for r in runs],
            "wall_seconds_while_sampled": sampled.seconds,
            "sampling_cpu_seconds": sampled.sampling,
            "processes": sampled.processes,
            **rows,
        },
    )


def _sweep(options: list[str], *, memory: bool) -> tuple[Run, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as root:
        out = Path(root) / "sweep"
        finished = run([THEORY, "sweep", "--out", str(out), *options], memory=memory)
        table = Store(out).read()
    column = {name: np.array(table[name].to_pylist()) for name in ("method", "n", "seed", "gradient_norm")}
    return finished, {
        "rows": table.num_rows,
        "methods": len(np.unique(column["method"])),
        "sizes": int(np.isfinite(np.unique(column["n"])).sum()),
        "seeds": len(np.unique(column["seed"])),
        "largest_gradient_norm": float(column["gradient_norm"].max()),
    }

"""``figures build --all`` from nothing and again, as a new user types it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.processes import run
from benchmarks.record import Measure, Record

FIGURES = str(Path(sys.executable).parent / "figures")


def benchmark(quick: bool) -> Record:
    fast = _twice("--fast")
    full = None if quick else _twice()
    help_page = [run([FIGURES, "--help"]).seconds for _ in range(1 if quick else 5)]
    measures = [
        Measure("build --all --fast, from nothing", fast.first, "s", target=90.0),
        Measure("the same again", fast.again, "s", target=5.0),
    ]
    if full is not None:
        measures += [
            Measure("build --all, from nothing", full.first, "s", target=900.0),
            Measure("build --all again", full.again, "s", target=5.0),
        ]
    return Record(
        "figures",
        "Wall time of `python -m figures build --all`, with `--fast` and without, each in a fresh process from an empty cache "
        "and an empty folder, then once more with nothing changed; the figures of language models read the committed result "
        f"tables. And of `figures --help` (median of {len(help_page)}).",
        (*measures, Measure("help", median(help_page), "s", target=0.6)),
        {"captions": {one["name"]: one["caption"] for one in (full or fast).built}, "help_seconds": help_page},
    )


@dataclass(frozen=True)
class Builds:
    """Two builds of one folder, in seconds, and what the first one built."""

    first: float
    again: float
    built: list[dict[str, Any]]


def _twice(*extra: str) -> Builds:
    with TemporaryDirectory() as folder:
        where = ["--out", f"{folder}/pictures", "--cache", f"{folder}/cache"]
        command = [sys.executable, "-m", "figures", "build", "--all", "--json", *where, *extra]
        first, again = run(command), run(command)
    changed = [one["name"] for one in json.loads(again.output) if one["data"] != "unchanged"]
    if changed:
        raise RuntimeError(f"built again though nothing had changed: {', '.join(changed)}")
    return Builds(first.seconds, again.seconds, json.loads(first.output))

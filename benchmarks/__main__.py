"""``python -m benchmarks [NAME...] [--out FILE] [--quick]``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.report import read, show, write
from theory.process import keep_memory

NAMES = (
    "cold_start",
    "sample_size",
    "default_sweep",
    "bradley_terry",
    "pmle_script",
    "sparse",
    "dense_large",
    "audit",
    "paper_checks",
    "figures",
    "llm_train",
    "llm_parity",
    "llm_memory",
    "llm_resume",
    "llm_gpu",
)
RESULTS = Path(__file__).parent / "results.json"


def main(arguments: list[str]) -> int:
    """Run benchmarks one after another, writing each as soon as it is done; the exit code is 1 if one could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the stated speed and memory, and write the page."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(NAMES)} (default: all)")
    parser.add_argument(
        "--out", type=Path, help="results (JSON, merged); README.md is written beside them (default: benchmarks/)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="reduced sizes, to see that the code runs; prints only, unless --out is given"
    )
    options = parser.parse_args(arguments)
    unknown = sorted({*options.names} - {*NAMES})
    if unknown:
        parser.error(f"{unknown[0]} is no benchmark (choices: {', '.join(NAMES)})")
    out = options.out or RESULTS
    keep_memory()  # as the `theory` program does
    done, failed = {}, False
    for name in options.names or NAMES:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            done[name] = measure(name, options.quick)
        except RuntimeError as error:
            print(f"{name} could not run: {error}", file=sys.stderr)
            failed = True
            continue
        if options.out or not done[name]["quick"]:
            write(out, {**read(out), name: done[name]})
    show(done)
    return int(failed)


def measure(name: str, quick: bool) -> dict[str, Any]:
    """A benchmark's record with when, where and by which command it was made."""
    where, date = environment(), datetime.now(UTC).strftime("%Y-%m-%d")
    record = import_module(f"benchmarks.{name}").benchmark(quick)
    command = f"python -m benchmarks {name}" + " --quick" * quick
    return {**record.plain(), "command": command, "date": date, "environment": where, "quick": quick or record.reduced}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

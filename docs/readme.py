"""Write the README's tables from what the programs printed.

    theory sweep --out sweep --methods ALL --n 1e3:1e9:4 --seeds 40 --json > docs/methods.json
    make bench
    python docs/readme.py

where ALL is the list that `theory methods` shows, separated by commas.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks is a package of the checkout, not of the installation
METHODS = ROOT / "docs" / "methods.json"
BENCHMARKS = ROOT / "benchmarks" / "results.json"


def methods(results: dict[str, Any]) -> str:
    """The Markdown table of every method's floor, slope, efficiency and verdict."""
    from theory.objectives import get

    lines = ["| method | loss | floor at n = ∞ (nats) | slope | efficiency | verdict |", "| --- | --- | --- | --- | --- | --- |"]
    for record in results["methods"]:
        name = record["label"].split(" ")[0]
        equation = get(name).sections["equation"].replace("|", "\\|")
        floor = "0" if record["floor"] < 1e-12 else f"{record['floor']:.4f}"
        slope, efficiency = record["slope"], record["efficiency"]
        half = (slope["high"] - slope["low"]) / 2
        reached = f"{efficiency['value']:.2f} ±{(efficiency['high'] - efficiency['low']) / 2:.2f}" if floor == "0" else "→ 0"
        lines.append(f"| `{name}` | {equation} | {floor} | {slope['value']:.3f} ±{half:.3f} | {reached} | {record['verdict']} |")
    return "\n".join(lines).replace("| -0.000 ", "| 0.000 ")


def speed(results: dict[str, Any]) -> str:
    """The Markdown table of the benchmarks that have a target."""
    from benchmarks.report import rows

    kept = [row for row in rows(results) if row[3] != "–"]
    lines = ["| benchmark | measure | value | target |", "| --- | --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {name.strip()} | {measure} | {value} | {target} |" for name, measure, value, target, _ in kept])


TABLES = {"methods": (methods, METHODS), "speed": (speed, BENCHMARKS)}


def rendered(readme: str) -> str:
    """The README with its tables replaced by what the result files hold."""
    for name, (table, source) in TABLES.items():
        start, end = f"<!-- {name}: written by docs/readme.py -->", f"<!-- end of {name} -->"
        before, _, rest = readme.partition(start)
        _, _, after = rest.partition(end)
        readme = f"{before}{start}\n{table(json.loads(source.read_text()))}\n{end}{after}"
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rendered(path.read_text()))

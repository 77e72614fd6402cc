"""Write the README's table of methods from what `theory sweep --json` printed.

    theory sweep --out sweep --methods ALL --n 1e3:1e9:4 --seeds 40 --json > docs/methods.json
    python docs/readme.py

where ALL is the list that `theory methods` shows, separated by commas.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "methods.json"
START, END = "<!-- methods: written by docs/readme.py -->", "<!-- end of methods -->"


def table(results: dict[str, Any]) -> str:
    """The Markdown table of every method's slope, floor, efficiency and verdict."""
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


def rendered(readme: str, results: dict[str, Any]) -> str:
    """The README with its table replaced."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(results)}\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rendered(path.read_text(), json.loads(RESULTS.read_text())))

"""Results as JSON, and the page and the table that are made from it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Results = dict[str, dict[str, Any]]
COLUMNS = ("benchmark", "measure", "value", "target", "met")

PAGE = """# Benchmarks

Generated from [`{json}`]({json}) by `python -m benchmarks`; do not edit. Every number below is in that file.
`make bench` measures all of them again; `python -m benchmarks NAME` measures one and leaves the rest as they are.
Ratios are against a named peer or setting in the same run on the same machine.

{table}
"""

SECTION = """
## {name}

{what}

- Reproduce: `{command}`
- Measured: {date}{quick}, on {cores} cores ({cpu}, {memory_gib:g} GiB, {system}), load {load_before:g} before the start
- Versions: {versions}

{details}
"""


def read(path: Path) -> Results:
    """Earlier results, or none."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, results: Results) -> None:
    """The results, and the page beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    (path.parent / "README.md").write_text(page(results, path.name))


def page(results: Results, name: str) -> str:
    """The page of all results."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|---:|---:|---|"]
    lines += ["| " + " | ".join((f"[{row[0]}](#{row[0]})", *row[1:])) + " |" for row in rows(results)]
    return PAGE.format(json=name, table="\n".join(lines)) + "".join(_section(key, results[key]) for key in sorted(results))


def show(results: Results) -> None:
    """The table on the terminal."""
    table = Table(*COLUMNS)
    for row in rows(results):
        table.add_row(*row)
    Console().print(table)


def rows(results: Results) -> list[tuple[str, ...]]:
    """One line a measure."""
    return [(name, *_row(measure)) for name in sorted(results) for measure in results[name]["measures"]]


def _row(measure: dict[str, Any]) -> tuple[str, ...]:
    unit = f" {measure['unit']}" if measure["unit"] else ""
    value = ("≥ " if measure["lower_bound"] else "") + text(measure["value"]) + unit
    if measure["target"] is None:
        return measure["name"], value, "–", "–"
    sign = "≤" if measure["at_most"] else "≥"
    return measure["name"], value, f"{sign} {text(measure['target'])}{unit}", "yes" if measure["met"] else "NO"


def _section(name: str, record: dict[str, Any]) -> str:
    environment = dict(record["environment"])
    versions = ", ".join(f"{package} {number}" for package, number in environment.pop("versions").items())
    quick = " (QUICK: reduced sizes, not a measurement)" if record["quick"] else ""
    return SECTION.format(
        name=name,
        what=record["what"],
        command=record["command"],
        date=record["date"],
        quick=quick,
        versions=versions,
        details="\n".join(_details(record["details"], 0)),
        **environment,
    )


def _details(values: dict[str, Any], level: int) -> list[str]:
    lines = []
    for key in sorted(values):
        value = values[key]
        nested = isinstance(value, dict)
        lines.append("  " * level + f"- {key}:" + ("" if nested else f" {text(value)}"))
        lines += _details(value, level + 1) if nested else []
    return lines


def text(value: Any) -> str:
    """A value for people: four digits of a number."""
    if isinstance(value, list):
        return ", ".join(text(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e7 else f"{value:.0f}"
    return str(value)

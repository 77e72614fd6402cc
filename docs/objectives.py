"""Write docs/objectives.md from the registry's metadata and the audit's verdicts.

python docs/objectives.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
AUDIT, PAGE = ROOT / "docs" / "audit.json", ROOT / "docs" / "objectives.md"

HEADER = """# The objectives

Written by `docs/objectives.py` from the registry (`theory/objectives/`) and from what `theory audit --all` printed
(`docs/audit.json`); do not edit. `theory methods NAME` shows an entry, `theory audit NAME` computes its verdicts again.

Every objective is an instance of

> L(π) = E_D[ℓ] − a·E_π[r] − α·H(π) + β·KL(π‖π_ref) + λ·KL(π_ref‖π),

with Δ winner minus loser, log-probabilities and rewards in nats. The verdicts are those of one world,
{instance}, with the tuned hyperparameter the best for the target where none is given.
"""
# Metadata shown, in this order, where an objective states it.
STATED = {"source": "source", "limit": "limit at n = ∞", "note": "note"}


def page() -> str:
    """The reference of all objectives, in alphabetical order."""
    from theory import objectives
    from theory.audit.run import matrix

    records = json.loads(AUDIT.read_text(encoding="utf-8"))
    rows = {name: cells for name, *cells in matrix(records)}
    verdicts = {record["method"]: record["verdicts"] for record in records}
    (instance,) = {record["instance"] for record in records}
    names = objectives.names()
    contents = " · ".join(f"[{name}](#{name})" for name in names)
    parts = [HEADER.format(instance=instance), contents, ""]
    parts += [entry(objectives.get(name), rows[name], verdicts[name]) for name in names]
    return "\n".join(parts)


def entry(objective: Any, cells: list[str], verdicts: list[dict[str, Any]]) -> str:
    """One objective: what it is, what it reads, what can be set, and what the audit found."""
    from theory.cli.methods import describe

    record = describe(objective)
    file = f"theory/objectives/{objective.name.replace('-', '_')}.py"
    facts = [("equation", f"`{record['equation']}`")]
    facts += [(label, record[key]) for key, label in STATED.items() if record[key]]
    facts += [
        ("inputs", ", ".join(f"`{name}`" for name in sorted(objective.inputs)) or "none of a pair"),
        ("needs", ", ".join(record["needs"]) or "the policy's log-probabilities alone"),
        ("reads the label", "no" if record["label_free"] else "yes"),
        ("pair loss convex in the logits", "yes" if record["convex"] else "not known to be"),
        ("definition", f"[`{file}`](../{file})"),
    ]
    parts = [f"## {objective.name}", "", record["title"] + ".", "", *table(("", ""), facts), ""]
    if record["hyperparameters"]:
        parts += [
            *table(("option", "default", "range", "meaning"), [_hyperparameter(p, record) for p in record["hyperparameters"]])
        ]
    else:
        parts += ["No hyperparameters."]
    return "\n".join([*parts, "", *_audit(cells, verdicts), ""])


def _hyperparameter(p: dict[str, Any], record: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table of hyperparameters."""
    about = [p["meaning"]] if p["meaning"] else []
    about += ["searched by `--beta best` and `validation`"] * (p["name"] == record["tuned"])
    about += [f"annealed {p['anneal'][0]:g} → {p['anneal'][1]:g} by `llm train --anneal`"] if p["anneal"] else []
    return f"`{p['option']}`", f"{p['default']:g}", p["range"].replace("inf", "∞"), "; ".join(about)


def _audit(cells: list[str], verdicts: list[dict[str, Any]]) -> list[str]:
    """The audit's columns, with its sentence where it has one."""
    from theory.audit.run import MATRIX

    answers = {v["id"]: v["answer"] for v in verdicts}
    found = [(name, cell, answers.get(id)) for (name, id), cell in zip(MATRIX.items(), cells, strict=True) if cell != "–"]
    lines = [f"- **{name}: {cell}**" + (f" — {answer}" if answer else "") for name, cell, answer in found]
    return ["What the audit found:", "", *lines]


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

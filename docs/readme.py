"""Write the tables and pictures of the README, and docs/verdicts.md, from what the programs printed.

theory audit --all --json > audit.json && python docs/readme.py --audit audit.json
paper-checks run --record
make bench
python docs/gallery.py
python docs/readme.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks is a package of the checkout, not of the installation
AUDIT = ROOT / "docs" / "audit.json"
BENCHMARKS = ROOT / "benchmarks" / "results.json"
EXAMPLES = ROOT / "docs" / "examples" / "audits.json"
VERDICTS = ROOT / "docs" / "verdicts.md"
GALLERY = ROOT / "docs" / "figures" / "gallery.json"
# The figures that the README shows.
FIRST, MORE = "kl-against-n", ("degeneracy", "overoptimisation", "transformer-consistency")
# What the README shows of an audit; the rest of what was printed is not kept.
KEPT = ("method", "consistent", "floor", "slope", "asymptotic_constant", "efficiency", "instance", "seed", "version")


def methods() -> str:
    """The Markdown table of every method's loss and properties."""
    from theory.audit.run import MATRIX, READING, families, matrix
    from theory.objectives import get

    records = json.loads(AUDIT.read_text())
    lines = ["| method | loss | " + " | ".join(MATRIX) + " |", "| --- " * (len(MATRIX) + 2) + "|"]
    for name, *cells in matrix(records):
        equation = get(name).sections["equation"].replace("|", "\\|")
        lines.append(f"| `{name}` | {equation} | " + " | ".join(cells) + " |")
    groups = "; ".join(", ".join(f"`{name}`" for name in family) for family in families(records))
    (world,) = {record["instance"] for record in records}
    return "\n".join(
        [
            *[*lines, "", f"*The world: {world}.", f"{READING}*", ""],
            f"One population minimiser, at some values of their hyperparameters: {groups}.",
        ]
    )


def examples() -> str:
    """What the audit says of the three example losses."""
    lines = ["| loss | consistent | floor | slope | efficiency | separable | population |", "| --- " * 7 + "|"]
    for record in json.loads(EXAMPLES.read_text()):
        floor = "none" if record["floor"] is None else "0" if record["floor"] < 1e-10 else f"{record['floor']:.3f}"
        slope = "–" if record["slope"] is None else f"{record['slope']:.2f}"
        share = "–" if record["efficiency"] is None else f"{record['efficiency']:.0%}"
        finite = ("finite" if record[key] else "degenerate" for key in ("finite_on_separable", "finite_in_population"))
        cells = (
            f"`{record['method']}`: {record['equation']}",
            "yes" if record["consistent"] else "no",
            floor,
            slope,
            share,
            *finite,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines).replace("-0.00", "0.00")


def audit_examples() -> None:
    """Audit the three losses and keep what the README shows."""
    shown = ("method", "equation", "consistent", "floor", "slope", "efficiency", "finite_on_separable", "finite_in_population")
    records = []
    for name in ("consistent", "biased", "degenerate"):
        command = [sys.executable, "-m", "theory", "audit", "--objective", f"docs/examples/losses.py:{name}", "--json"]
        record = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
        records.append({key: record[key] for key in shown})
    EXAMPLES.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")


def verdicts() -> str:
    """How the claims of each paper came out, and those that fail."""
    from paper_checks import records
    from paper_checks.claims import PAPERS, Verdict, claims

    found = [(claim, records.load(claim)) for claim in claims().values()]
    lines = ["| paper | claims | " + " | ".join(Verdict) + " |", "| --- " * (len(Verdict) + 2) + "|"]
    for paper in PAPERS:
        mine = [record["verdict"] for claim, record in found if claim.paper == paper]
        lines.append(f"| {paper} | {len(mine)} | " + " | ".join(str(mine.count(verdict)) for verdict in Verdict) + " |")
    return "\n".join(lines)


def verdict_page() -> str:
    """Every claim and its verdict, from the records."""
    from paper_checks import records
    from paper_checks.claims import PAPERS, claims

    parts = [
        "# Every claim and its verdict",
        "Written by `docs/readme.py` from `paper_checks/records/`; `paper-checks run` computes it again.\n",
    ]
    for paper, cited in PAPERS.items():
        parts += [f"## {paper}", cited, "", "| statement | claim | verdict | reproduce |", "| --- | --- | --- | --- |"]
        for claim in claims().values():
            if claim.paper == paper:
                record = records.load(claim)
                condition = f": {record['assumption']}" if record["assumption"] else ""
                cells = (claim.statement, claim.says, f"**{record['verdict']}**{condition}", f"`{claim.reproduce}`")
                parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts)


def keep(printed: Path) -> None:
    """Keep of an audit's output what the README shows."""
    from theory.audit.run import MATRIX

    shown = {*MATRIX.values(), "equivalence.minimiser"}

    def short(verdict: dict[str, Any]) -> dict[str, Any]:
        matches = [{"method": m["method"], "world": m["world"]} for m in verdict["numbers"].get("matches", ())]
        return {"id": verdict["id"], "verdict": verdict["verdict"], "answer": verdict["answer"], "numbers": {"matches": matches}}

    records = [
        {**{key: r[key] for key in KEPT}, "verdicts": [short(v) for v in r["verdicts"] if v["id"] in shown]}
        for r in json.loads(printed.read_text())
    ]
    AUDIT.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")


def speed() -> str:
    """The Markdown table of the benchmarks that have a target."""
    from benchmarks.report import rows

    kept = [row for row in rows(json.loads(BENCHMARKS.read_text())) if row[3] != "–"]
    lines = ["| benchmark | measure | value | target |", "| --- | --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {name.strip()} | {measure} | {value} | {target} |" for name, measure, value, target, _ in kept])


def picture() -> str:
    """The first picture, with its takeaway."""
    return _figure(_gallery()[FIRST])


def pictures() -> str:
    """A few more of the gallery; one that was not built yet is left out."""
    found = _gallery()
    return "\n\n".join(_figure(found[name]) for name in MORE if name in found)


def _figure(record: dict[str, Any]) -> str:
    image = f"![{record['title']}](docs/figures/{record['figure']}.png)"
    return f"{image}\n\n*{record['caption']}* (`figures build {record['figure']}`; {record['source']})"


def _gallery() -> dict[str, dict[str, Any]]:
    return {record["figure"]: record for record in json.loads(GALLERY.read_text(encoding="utf-8"))}


TABLES = {
    "picture": picture,
    "methods": methods,
    "pictures": pictures,
    "examples": examples,
    "verdicts": verdicts,
    "speed": speed,
}


def rendered(readme: str) -> str:
    """The README with its tables replaced by what the result files hold."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name}: written by docs/readme.py -->", f"<!-- end of {name} -->"
        before, _, rest = readme.partition(start)
        _, _, after = rest.partition(end)
        readme = f"{before}{start}\n{table()}\n{end}{after}"
    return readme


if __name__ == "__main__":
    if sys.argv[1:2] == ["--audit"]:
        keep(Path(sys.argv[2]))
        audit_examples()
    VERDICTS.write_text(verdict_page())
    path = ROOT / "README.md"
    path.write_text(rendered(path.read_text()))

"""The verdicts as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from paper_checks.claims import PAPERS
from paper_checks.run import Result
from theory import page

TEMPLATE = Path(__file__).parent / "templates" / "verdicts.html.jinja"
TONES = {"holds": "good", "holds-if": "open", "fails": "bad", "not-checkable": "open"}


def write(path: Path, results: Sequence[Result]) -> None:
    """Write the page; raises `UserError` if it cannot be written."""
    made = [result.record() for result in results]
    papers = [(name, cited, [r for r in made if r["paper"] == name]) for name, cited in PAPERS.items()]
    counts = {verdict: sum(r["verdict"] == verdict for r in made) for verdict in TONES}
    page.write(path, TEMPLATE, papers=papers, counts=counts, tones=TONES, total=len(made), dump=_dump)


def _dump(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)

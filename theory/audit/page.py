"""An audit as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from theory import page
from theory.audit.pictures import svg
from theory.audit.report import Panel
from theory.audit.run import MATRIX, READING, Audit, families, matrix
from theory.cli.console import cell

FOLDER = page.SHARED


def write(path: Path, audit: Audit) -> None:
    """Write the page; raises `UserError` if it cannot be written."""
    page.write(path, FOLDER / "audit.html.jinja", audit=audit, record=audit.record(), picture=_picture, cell=cell)


def write_matrix(path: Path, records: list[dict[str, Any]]) -> None:
    """Write the table method × property; raises `UserError` if it cannot be written."""
    content: dict[str, Any] = {"columns": ("method", *MATRIX), "rows": matrix(records)}
    content |= {"reading": READING, "families": families(records)}
    page.write(path, FOLDER / "matrix.html.jinja", records=records, **content)


def _picture(panel: Panel) -> Markup:
    # Drawn by us from numbers and our own words; matplotlib escapes the text that it writes.
    return Markup(svg(panel))

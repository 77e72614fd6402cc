"""The gallery: every picture of a folder with its caption, on one page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from figures import records
from theory import page
from theory.errors import UserError
from theory.files import write_whole

NAME = "index.html"
TEMPLATE = Path(__file__).parent / "templates" / "gallery.html.jinja"
# At the end of every page of ours; see `theory.page`.
MARK = "Written by prefproof"
# Shown in this order of preference: a raster looks the same with any reader's fonts.
SHOWN = (".png", ".svg")


def check(folder: Path) -> None:
    """Raise `UserError` if a page that somebody else wrote would be overwritten."""
    path = folder / NAME
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise UserError("--out", folder, f"holds an {NAME} that is not of this program: choose another folder")


def write(folder: Path) -> None:
    """Write the page of all figures that the folder holds a record of; raises `UserError`."""
    found = records.read_all(folder)
    shown = {record.figure: _shown(record) for record in found}
    check(folder)
    write_whole(folder / NAME, partial(page.write, template=TEMPLATE, argument="--out", records=found, shown=shown))


def _shown(record: records.Record) -> str | None:
    """The picture that a browser can show, if there is one."""
    names = (name for ending in SHOWN for name in record.files if name.endswith(ending))
    return next(names, None)

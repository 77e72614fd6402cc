"""Self-contained HTML reports: one file, its style and pictures inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from theory import __version__
from theory.files import writing

SHARED = Path(__file__).parent / "templates"


def write(path: Path, template: Path, argument: str = "--html", **content: Any) -> None:
    """Render a template, with everything escaped, into a file; raises `UserError` if it cannot be written."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template.name).render(version=__version__, **content)
    with writing(argument, path):
        path.write_text(text, encoding="utf-8")

"""What every command prints with: one JSON object, or tables for people."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import typer

# Columns of output that goes to a file or another program.
PIPE_WIDTH = 120


def print_json(record: dict[str, Any] | list[Any]) -> None:
    """One JSON value on standard output; what is not finite becomes null."""
    typer.echo(json.dumps(plain(record), ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: ``∞`` and ``–`` where it has no finite value."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}"


def cell(value: Any) -> str:
    """Any value of a table for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return number(value) if isinstance(value, float) else str(value)


def floor_text(floor: float) -> str:
    """A floor for people: below 1e-12 nats it is 0 to the precision of float64."""
    return "0" if floor < 1e-12 else number(floor)


def print_table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: bool = True) -> None:
    """A table for people; columns of numbers are aligned right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    headed = any(columns)
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD if headed else None,
        show_header=headed,
        pad_edge=False,
        padding=(0, 1),
    )
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(_numeric(row[i]) for row in rows)
        # Words may wrap; a number cut short would be another number.
        width = max(len(row[i]) for row in rows) if numeric else None
        justify: Literal["left", "right"] = "right" if numeric and headed else "left"
        table.add_column(column, justify=justify, no_wrap=not wrap or i == 0, min_width=width)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # equations contain square brackets, rich's markup
    wide_console().print(table)


def wide_console() -> Any:
    """A console as wide as its terminal; a pipe has no width of its own and gets room for a table."""
    from rich.console import Console

    console = Console(soft_wrap=False)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(soft_wrap=False, width=PIPE_WIDTH)


def print_answers(title: str, answers: Iterable[tuple[str, str, str]]) -> None:
    """Questions with their verdicts, each over an indented sentence of numbers."""
    from rich.padding import Padding
    from rich.text import Text

    console = wide_console()
    console.print(Text(title, style="bold"))
    for question, verdict, answer in answers:
        console.print(Padding(Text.assemble(question, "  ", (verdict, "bold")), (0, 0, 0, 2)))
        console.print(Padding(Text(answer), (0, 0, 0, 6)))
    console.print()


def _numeric(text: str) -> bool:
    try:
        float(text.replace("∞", "inf").replace("–", "nan").replace("−", "-").split(" ")[0])
    except ValueError:
        return False
    return True

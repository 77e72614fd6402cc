"""A figure's picture: drawn at print size, the same file for the same data."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from figures import code
from figures.figure import Figure

FORMATS = ("pdf", "svg", "png")


def render(figure: Figure, data: Any) -> Any:
    """The figure drawn at print size, as matplotlib's; its ``axes`` hold the data again."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    from figures import style

    layout = figure.layout
    with rc_context(style.RC):
        width = style.TWO_COLUMNS if layout.wide else style.ONE_COLUMN
        canvas = Canvas(figsize=(width, layout.height), layout="constrained")
        FigureCanvasAgg(canvas)
        panels = canvas.subplots(layout.rows, layout.columns, squeeze=False)
        figure.draw(data, list(panels.flat))
        canvas.draw_without_rendering()
        style.settle(canvas)  # the layout has changed the panels' heights, and with them what touches
        canvas.draw_without_rendering()
        canvas.set_layout_engine("none")  # final: every format is saved as it is now
    return canvas


def save(canvas: Any, kind: str, path: Path) -> None:
    """Write a drawn figure in one of `FORMATS`, without dates or names of programs."""
    from matplotlib import rc_context

    from figures import style

    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[kind]
    with rc_context(style.RC):
        canvas.savefig(path, format=kind, metadata=metadata)


def digest(figure: Figure) -> str:
    """What decides the picture and its caption beside the data: our code, the layout and matplotlib's release."""
    described = repr((figure.title, figure.source, sorted(asdict(figure.layout).items())))
    parts = [version("matplotlib"), described, code.digest("figures.drawing")]
    parts += [code.digest(made.__module__, made.__name__) for made in (figure.draw, figure.caption)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

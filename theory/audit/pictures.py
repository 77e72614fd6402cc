"""Panels drawn: they compute nothing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from theory.audit.report import Panel
from theory.plotting import MARKERS, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# At most this many points of a line get a marker.
MARKED = 12


def draw(panel: Panel, axes: Axes) -> None:
    """Draw one panel."""
    for index, line in enumerate(panel.lines):
        color, marker = PALETTE[(index + 5) % len(PALETTE)], MARKERS[index % len(MARKERS)]
        step = max(1, len(line.x) // MARKED)
        axes.plot(line.x, line.y, color=color, marker=marker, markersize=3.5, markevery=step, linewidth=1.4, label=line.label)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, linewidth=0)
    for label, height in panel.levels:
        axes.axhline(height, color="black", linewidth=0.8, linestyle=":")
        axes.annotate(label, (0.01, height), xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    axes.set_title(panel.title, fontsize=10)
    if panel.x_log:
        axes.set_xscale("log")
    if panel.y_log:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    if len(panel.lines) > 1:
        axes.legend(frameon=False, fontsize=7)


def svg(panel: Panel) -> str:
    """A panel as an SVG element for a page."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A fixed salt makes the same report the same file.
    with rc_context({"svg.hashsalt": "prefproof", "svg.fonttype": "none"}):
        figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        draw(panel, figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]

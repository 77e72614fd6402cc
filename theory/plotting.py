"""Forward KL against n: the one picture that the theory commands draw themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.errors import UserError
from theory.files import writing
from theory.sweeps.summary import Curve, curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by all common forms of colour blindness, and two more.
PALETTE = ("#000000", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#0072B2", "#D55E00", "#8C6D31", "#7F7F7F")
MARKERS = ("o", "s", "^")
FORMATS = (".png", ".pdf", ".svg")


def style_of(method: str) -> dict[str, Any]:
    """A method's colour and marker, the same in every picture."""
    from theory.objectives import names

    known = names()
    index = known.index(method) if method in known else len(known)
    return {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index // len(PALETTE) % len(MARKERS)]}


def draw_curves(axes: Axes, drawn: Sequence[Curve], constant: float | None, mark: tuple[float, float] | None = None) -> None:
    """Mean forward KL with a band from the 10th to the 90th percentile over data sets, floors, limit."""
    for rank, curve in enumerate(drawn):
        style, groups = style_of(curve.method), curve.by_size()
        # Curves that coincide stay visible inside each other.
        thick = max(1.0, 4.0 - 0.6 * rank) if len(drawn) > 1 else 1.5
        n = np.array(list(groups))
        bands = np.array([np.percentile(v, [10, 90]) for v in groups.values()])
        means = [v.mean() for v in groups.values()]
        axes.plot(n, means, label=curve.label, markersize=2.5 + thick, linewidth=thick, **style)
        axes.fill_between(n, *bands.T, color=style["color"], alpha=0.18, linewidth=0)
        if curve.floor > 1e-12:
            axes.axhline(curve.floor, color=style["color"], linewidth=0.8, linestyle=":")
    sizes = np.unique(np.concatenate([curve.n for curve in drawn]))
    if constant is not None:
        axes.plot(sizes, constant / sizes, color="black", linestyle="--", linewidth=1, label="Cramér–Rao limit c/n")
    if mark is not None and math.isfinite(mark[0]):
        axes.plot(*mark, marker="*", markersize=13, color="black", linestyle="none", label=f"this fit, n = {mark[0]:g}")
    axes.set(xscale="log", yscale="log", xlabel="comparisons n", ylabel="forward KL to the target (nats)")
    axes.grid(alpha=0.25, which="major")
    axes.legend(frameon=False, fontsize=8)


def picture(
    rows: Iterable[Mapping[str, Any]],
    path: str | Path,
    *,
    constant: float | None,
    title: str,
    mark: tuple[float, float] | None = None,
    argument: str = "--out",
) -> None:
    """Draw a sweep's rows into a file; raises `UserError` for a format or a place that cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    path = check_format(path, argument)
    figure = Figure(figsize=(6.4, 4.4), layout=ConstrainedLayoutEngine(rect=(0, 0.03, 1, 0.97)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_curves(axes, curves(rows), constant, mark)
    axes.set_title(title, fontsize=10)
    figure.text(0.01, 0.005, "lines: mean over data sets; bands: 10th–90th percentile; dotted: floor at n = ∞", fontsize=6.5)
    with writing(argument, path):
        figure.savefig(path, dpi=160)


def check_format(path: str | Path, argument: str) -> Path:
    """The path, if its ending is one that can be drawn; raises `UserError`."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(argument, path, f"must end in {', '.join(FORMATS)}")
    return path

"""How every figure looks: print-ready at one and two columns, safe for colour blindness, lines labelled where they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from theory.plotting import style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from numpy.typing import ArrayLike

# Inches: a column of a two-column page, and the page's text.
ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
GREY = "0.45"
# Points: the least that stays legible in print, the distance of labels above each other, and of a label from its line.
SMALL, APART, BESIDE = 6.0, 7.0, 3.0
# Marks the labels of line ends among a panel's texts.
ENDS = "end-labels-"

RC: Any = {
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.0,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.3,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "prefproof",  # the same figure is the same file
}


def method(name: str, **given: Any) -> dict[str, Any]:
    """Line properties of a method: one colour and marker in all figures; ``given`` wins."""
    return {**style_of(name), **given}


def colour(name: str) -> str:
    """A method's colour in all figures."""
    return str(style_of(name)["color"])


def band(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str) -> None:
    """A band around a line; the caption, or a note, says what it is."""
    axes.fill_between(np.asarray(x), np.asarray(low), np.asarray(high), color=color, alpha=0.18, linewidth=0)


def floor(axes: Axes, height: float, color: str) -> None:
    """A dotted line where a method stops at n = ∞."""
    axes.axhline(height, color=color, linewidth=0.8, linestyle=":", zorder=1)


def limit(axes: Axes, x: ArrayLike, y: ArrayLike, label: str) -> None:
    """A dashed black line that nothing passes, with its name at its end."""
    axes.plot(np.asarray(x), np.asarray(y), color="black", linewidth=0.9, linestyle="--", label=label, zorder=1)


def note(axes: Axes, text: str, at: tuple[float, float] = (0.03, 0.04), **given: Any) -> None:
    """A few words inside a panel, in fractions of it."""
    axes.text(*at, text, **{"transform": axes.transAxes, "fontsize": SMALL, "color": GREY, **given})


def label_ends(axes: Axes, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Write labels to the right of points of the data, moved apart where they would touch.

    Call it last, when the limits of the axes are final. Labels of one call keep clear of each other.

    Args:
        axes: the panel.
        labels: x, y, text and colour of each.
    """
    group = f"{ENDS}{len(axes.texts)}"
    for x, y, text, color in labels:
        axes.annotate(
            text,
            (x, y),
            xytext=(BESIDE, 0),
            textcoords="offset points",
            color=color,
            fontsize=SMALL + 0.5,
            va="center",
            annotation_clip=False,
            gid=group,
        )
    _settle(axes)


def settle(figure: Figure) -> None:
    """Move the labels of `label_ends` apart again, after the layout has changed the panels' heights."""
    for axes in figure.axes:
        _settle(axes)


def _settle(axes: Axes) -> None:
    groups: dict[str, list[Annotation]] = {}
    for text in axes.texts:
        if str(text.get_gid()).startswith(ENDS):
            groups.setdefault(str(text.get_gid()), []).append(cast("Annotation", text))
    points = 72.0 / axes.figure.dpi
    for labels in groups.values():
        heights = np.array([axes.transData.transform(label.xy)[1] * points for label in labels])
        order = np.argsort(heights, kind="stable")
        for place, index in zip(_apart(heights[order], APART), order, strict=True):
            labels[index].set_position((BESIDE, place - heights[index]))


def _apart(sorted_heights: np.ndarray, gap: float) -> np.ndarray:
    """The heights nearest to the given, increasing ones (least squares) that lie at least ``gap`` apart."""
    shifted = sorted_heights - gap * np.arange(len(sorted_heights))
    blocks: list[tuple[float, int]] = []  # mean and size: pool adjacent violators
    for value in shifted:
        mean, size = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, size = (mean * size + before * many) / (size + many), size + many
        blocks.append((mean, size))
    pooled = np.concatenate([np.full(size, mean) for mean, size in blocks])
    return pooled + gap * np.arange(len(sorted_heights))

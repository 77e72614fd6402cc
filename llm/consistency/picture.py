"""The picture of a study: forward KL of transformers against n, over the exact table's curve and floor."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.files import writing
from theory.instances.tabular import Array
from theory.plotting import check_format, style_of
from theory.sweeps.summary import CONSISTENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTION = (
    "points: transformers, mean and range over data sets; lines: the exact table on the same data; dotted: its floor at n = ∞"
)


@dataclass(frozen=True)
class Line:
    """One method's numbers, an entry a sample size; nats.

    Attributes:
        method: its name.
        hyper: its hyperparameters.
        n: sample sizes, increasing.
        mean, low, high: forward KL of the transformers over data sets: mean, least and greatest.
        table: mean forward KL of the table.
        off: mean probability that the transformers put off the language.
        gradient: greatest norm of the loss's gradient at the end of training.
        floor: the table's at n = ∞.
    """

    method: str
    hyper: dict[str, float]
    n: Array
    mean: Array
    low: Array
    high: Array
    table: Array
    off: Array
    gradient: Array
    floor: float

    @property
    def label(self) -> str:
        """The method and its hyperparameters."""
        shown = ", ".join(f"{symbol(name)} = {value:.3g}" for name, value in self.hyper.items())
        return f"{self.method} ({shown})" if shown else self.method


def symbol(name: str) -> str:
    """A hyperparameter's name for people, such as ``β`` for ``beta``."""
    greek = {"alpha": "α", "beta": "β", "gamma": "γ", "eta": "η", "tau": "τ", "lambda": "λ"}
    letter, _, index = name.rstrip("_").partition("_")
    return greek.get(letter, letter) + (f"_{index}" if index else "")


def lines(rows: Iterable[Mapping[str, Any]]) -> list[Line]:
    """A study's rows as lines, in the order in which the methods appear."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["method"], []).append(row)
    return [_line(group) for group in groups.values()]


def _line(rows: Sequence[Mapping[str, Any]]) -> Line:
    n = np.unique([row["n"] for row in rows]).astype(float)

    def each(name: str, summary: Any) -> Array:
        return np.array([summary([row[name] for row in rows if row["n"] == size]) for size in n], dtype=float)

    return Line(
        method=rows[0]["method"],
        hyper=json.loads(rows[0]["hyperparameters"]),
        n=n,
        mean=each("forward_kl", np.mean),
        low=each("forward_kl", np.min),
        high=each("forward_kl", np.max),
        table=each("table_forward_kl", np.mean),
        off=each("off_language_mass", np.mean),
        gradient=each("gradient_norm", np.max),
        floor=rows[0]["floor"],
    )


def draw(axes: Axes, drawn: Sequence[Line], start: float | None = None) -> None:
    """Draw lines, and the forward KL of the reference from which training starts; computes nothing."""
    for line in drawn:
        style = style_of(line.method)
        bars = [np.maximum(line.mean - line.low, 0), np.maximum(line.high - line.mean, 0)]
        axes.errorbar(line.n, line.mean, yerr=bars, linestyle="none", capsize=3, markersize=6, label=line.label, **style)
        axes.plot(line.n, line.table, color=style["color"], linewidth=1.2)
        if line.floor > CONSISTENT:
            axes.axhline(line.floor, color=style["color"], linewidth=1, linestyle=":")
    if start is not None:
        axes.axhline(start, color="0.6", linewidth=0.8, linestyle="-.", label="the reference, where training starts", zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="comparisons n", ylabel="forward KL to the target (nats)")
    axes.grid(alpha=0.25, which="major")
    axes.legend(frameon=False, fontsize=8)


def picture(rows: Sequence[Mapping[str, Any]], path: Path, argument: str = "--picture") -> None:
    """Draw a study's rows into a file; raises `UserError` for a format or a place that cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    check_format(path, argument)
    figure = Figure(figsize=(6.4, 4.4), layout=ConstrainedLayoutEngine(rect=(0, 0.03, 1, 0.97)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    first = rows[0]
    draw(axes, lines(rows), first["forward_kl_before"])
    responses = (
        f"{first['prompts']} prompts, responses of {first['length']} out of {first['tokens']} tokens, γ = {first['gamma']:g}"
    )
    axes.set_title(f"{first['world']}: {responses}", fontsize=9)
    figure.text(0.01, 0.005, CAPTION, fontsize=6.2)
    with writing(argument, path):
        figure.savefig(path, dpi=140)

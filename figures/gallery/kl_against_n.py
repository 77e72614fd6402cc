"""Forward KL to the target against the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from figures.figure import Figure, Layout
from figures.sweeps import TIED, method_of, sweep

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# A floor below this (nats) is 0 to the precision of the solvers.
ZERO = 1e-9


@dataclass(frozen=True)
class Config:
    """What is swept.

    Attributes:
        methods: names.
        decades: log₁₀ of the sizes: first, last and step.
        seeds: data sets at each size.
    """

    methods: tuple[str, ...] = ("rlhf", "dpo", "drdo", TIED, "rkl", "pref-distill", "pmle")
    decades: tuple[int, int, int] = (2, 10, 1)
    seeds: int = 100


def data(config: Config) -> pd.DataFrame:
    """One row a method, n and data set."""
    first, last, step = config.decades
    return sweep(config.methods, [10.0**k for k in range(first, last + 1, step)], config.seeds)


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Means with bands, floors, and the Cramér–Rao line."""
    import numpy as np

    from figures import style

    (panel,) = axes
    finite = data[np.isfinite(data["n"])]
    labels = []
    for rank, (method, rows) in enumerate(finite.groupby("method", sort=False)):
        at = rows.groupby("n")["forward_kl"]
        given = {"linestyle": "-" if method == method_of(str(method)) else "--"}
        look = style.method(method_of(str(method)), linewidth=max(0.7, 2.2 - 0.25 * rank), **given)
        panel.plot(at.mean().index, at.mean(), label=method, **look)
        style.band(panel, at.mean().index, at.quantile(0.1), at.quantile(0.9), look["color"])
        labels.append((at.mean().index[-1], at.mean().iloc[-1], str(method), look["color"]))
    for method, rows in data[np.isinf(data["n"])].groupby("method", sort=False):
        if rows["forward_kl"].iloc[0] > ZERO:
            style.floor(panel, rows["forward_kl"].iloc[0], style.colour(method_of(str(method))))
    n = np.sort(finite["n"].unique())
    style.limit(panel, n, data["limit"].iloc[0] / n, "Cramér–Rao limit")
    panel.set(xscale="log", yscale="log", xlabel="comparisons n", ylabel="forward KL to the target (nats)")
    style.note(panel, "dashed black: Cramér–Rao limit $c/n$\ndotted: floor at $n = ∞$\nbands: 10th–90th percentile")
    style.label_ends(panel, labels)


def caption(data: pd.DataFrame) -> str:
    """Who reaches the target, and who stops where."""
    import numpy as np

    floors = data[np.isinf(data["n"])].set_index("method")["forward_kl"]
    largest = data.loc[np.isfinite(data["n"]), "n"].max()
    end = data[data["n"] == largest].groupby("method")["forward_kl"].mean()
    reach = [m for m in floors.index if floors[m] <= ZERO]
    stop = [m for m in floors.index if floors[m] > ZERO]
    share = [data["limit"].iloc[0] / (largest * end[m]) for m in reach]
    return (
        f"{_and(reach)} reach the target at {min(share):.0%} to {max(share):.0%} of the Cramér–Rao limit "
        f"(n = {largest:.0e}). However many comparisons they see, "
        + ", ".join(f"{m} stops at {floors[m]:.2g}" for m in stop[:-1])
        + f" and {stop[-1]} at {floors[stop[-1]]:.2g} nats, each at the best value of what it tunes."
    )


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


FIGURE = Figure(
    name="kl-against-n",
    title="forward KL to the target against n: who converges, who stops, and the statistical limit",
    source="unified Fig. 1",
    config=Config(),
    fast=Config(decades=(2, 10, 2), seeds=16),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(height=2.9),
)

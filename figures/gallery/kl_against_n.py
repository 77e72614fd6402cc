"""Forward KL to the target against the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.sweeps import TIED, ZERO, method_of, share, sweep
from figures.words import listed, opening, power, shares, short, written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Curves whose ends differ by less than this share are drawn as one, in dashes (points) of alternating colours.
SAME = 0.02
DASH = 3.0
# Shares of the information this near to each other are told as one number.
AGREE = 0.005


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
    means = finite.groupby(["method", "n"], sort=False)["forward_kl"].mean()
    labels = []
    for method, rows in finite.groupby("method", sort=False):
        at, colour = rows.groupby("n")["forward_kl"], style.colour(method_of(str(method)))
        style.band(panel, at.mean().index, at.quantile(0.1), at.quantile(0.9), colour)
        panel.plot(at.mean().index, at.mean(), label=method, **_look(str(method), _beside(means, str(method))))
        labels.append((at.mean().index[-1], at.mean().iloc[-1], str(method), colour))
    for method, rows in data[np.isinf(data["n"])].groupby("method", sort=False):
        if rows["forward_kl"].iloc[0] > ZERO:
            style.floor(panel, rows["forward_kl"].iloc[0], style.colour(method_of(str(method))))
    n = np.sort(finite["n"].unique())
    style.limit(panel, n, data["limit"].iloc[0] / n, "Cramér–Rao limit")
    panel.lines[-1].set(zorder=4, linewidth=0.7)
    panel.set(xscale="log", yscale="log", xlabel="comparisons n", ylabel="forward KL to the target (nats)")
    words = "thin black dashes: Cramér–Rao limit $c/n$\ndotted: floor at $n = ∞$\nband: 10th–90th percentile of data sets"
    panel.set_xlim(n[0] / 2, 1.5 * n[-1])  # the dotted lines end where the labels begin
    style.note(panel, words + "\nalternating colours: curves that coincide")
    style.label_ends(panel, labels)


def _beside(means: pd.Series, method: str) -> list[str]:
    """The methods whose curves end where this one's does, itself among them."""
    ends = means.xs(means.index.get_level_values("n").max(), level="n")
    return [str(m) for m in ends.index[abs(ends / ends[method] - 1) < SAME]]


def _look(method: str, beside: list[str]) -> dict[str, Any]:
    """Line properties; curves that coincide take turns, a dash and a marker each."""
    from figures import style

    rank, many = beside.index(method), len(beside)
    dashed = {"linestyle": "-"} if many == 1 else {"linestyle": (rank * DASH, (DASH, (many - 1) * DASH)), "dash_capstyle": "butt"}
    tied = {"markerfacecolor": "white"} if method != method_of(method) else {}
    return style.method(method_of(method), linewidth=1.6, markevery=(rank, many), **dashed, **tied)


def caption(data: pd.DataFrame) -> str:
    """Who reaches the target, and who stops where."""
    import numpy as np

    floors = data[np.isinf(data["n"])].groupby("method", sort=False)["forward_kl"].first()
    reach = [str(m) for m in floors.index if floors[m] <= ZERO]
    stops: dict[str, list[str]] = {}
    for method in floors.index[floors > ZERO]:
        stops.setdefault(short(floors[method]), []).append(str(method))
    stop = [f"{written(*methods)} at {level}" for level, methods in stops.items()]
    others = (
        f"{'The others' if reach else 'They'} stop however much they see and however well they are tuned: {listed(stop)} nats"
    )
    return f"{_reaching(data, reach)}. {others if stop else 'None of them has a floor'}."


def _reaching(data: pd.DataFrame, reach: list[str]) -> str:
    """Who reaches the target and with which share of the Cramér–Rao information, one number where the shares agree."""
    if not reach:
        return "None of these methods reaches the target"
    import numpy as np

    largest = data.loc[np.isfinite(data["n"]), "n"].max()
    end = data[data["n"] == largest].groupby("method")["forward_kl"]
    found = [share(data["limit"].iloc[0], largest, end.get_group(m).to_numpy()) for m in reach]
    at = shares(found, AGREE, f"the Cramér–Rao limit for {power(largest)} comparisons")
    return f"{opening(written(*reach))} {'reaches' if len(reach) == 1 else 'reach'} the target at {at}"


FIGURE = Figure(
    name="kl-against-n",
    title="forward KL to the target against n: who converges, who stops, and the statistical limit",
    source="unified Fig. 1",
    config=Config(),
    # Preference distillation, slow to tune, has the curve of PMLE.
    fast=Config(methods=("rlhf", "dpo", "drdo", TIED, "rkl", "pmle"), decades=(2, 10, 2), seeds=8),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(height=2.9),
)

"""What each method gains when training sets prefer the longer response more, or less, often than the oracle does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from figures.figure import Figure, Layout
from figures.words import listed, short, some, written

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

# What the parts of the table are called.
WORLD, MEAN, AGAINST, CHANGE = "world", "mean", "against dpo", "small less large"
BASELINE = "dpo"
SUBSETS = "e-dpo-length"


@dataclass(frozen=True)
class Config:
    """What is computed.

    Attributes:
        rhos: shares ρ of the training comparisons in which the longer response is preferred.
        methods: names in `paper_checks.distillation.lengthbias.METHODS`.
        seeds: the first and the number of the worlds; those of the record of distillation-length-bias-robust.
    """

    rhos: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    methods: tuple[str, ...] = ("dpo", "ipo", "d-dpo", "p-dpo", "dp-dpo", "e-dpo", SUBSETS)
    seeds: tuple[int, int] = (100, 16)


def data(config: Config) -> pd.DataFrame:
    """One row a value; ``part`` says of what, all in standard deviations of the oracle's reward under π_SFT.

    Parts: ``world`` (one world's advantage over π_SFT, with the β or τ chosen on its validation prompts), ``mean`` (over
    worlds), ``against dpo`` (the mean difference from DPO in the same world) and ``small less large`` (the mean of ρ < ½
    less that of ρ > ½ in the same world). Means have 95% Student-t intervals.
    """
    import pandas as pd

    from paper_checks.distillation.lengthbias import advantage_curves
    from paper_checks.distillation.robustness import table

    first, count = config.seeds
    rows = advantage_curves(config.rhos, config.methods, range(first, first + count))
    kept = ["method", "rho", "seed", "hyper", "uncertified"]
    worlds = [{"part": WORLD, "value": row["advantage_sd"], **{name: row[name] for name in kept}} for row in rows]
    gains = {method: table(rows, method, config.rhos) for method in config.methods}
    small, large = ([i for i, rho in enumerate(config.rhos) if sign * (rho - 0.5) > 0] for sign in (-1, 1))
    means = []
    for method, gain in gains.items():
        change = gain[:, small].mean(1) - gain[:, large].mean(1)
        means.append(_mean(CHANGE, method, float("nan"), change))
        for column, rho in enumerate(config.rhos):
            means.append(_mean(MEAN, method, rho, gain[:, column]))
            means.append(_mean(AGAINST, method, rho, gain[:, column] - gains[BASELINE][:, column]))
    return pd.DataFrame([*means, *worlds])


def _mean(part: str, method: str, rho: float, values: np.ndarray) -> dict[str, object]:
    from theory.statistics import rates

    return {"part": part, "method": method, "rho": rho, **vars(rates.mean(values))}


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """The advantage over π_SFT, and over DPO."""
    from figures import style

    for panel, part in zip(axes, (MEAN, AGAINST), strict=True):
        rows, labels = data[data["part"] == part], []
        panel.axhline(0, color="black", linewidth=0.6, zorder=1)
        panel.axvline(0.5, color=style.GREY, linewidth=0.6, linestyle=":", zorder=1)
        panel.set(xlabel="$ρ$: share of labels for the longer response", xticks=sorted(rows["rho"].unique()))
        for method, line in rows.groupby("method", sort=False):
            look = style.method(_registered(str(method)), linestyle="--" if method == SUBSETS else "-", linewidth=1.1)
            panel.plot(line["rho"], line["value"], label=method, **look)
            style.band(panel, line["rho"], line["low"], line["high"], look["color"])
            labels.append((line["rho"].iloc[-1], line["value"].iloc[-1], _label(str(method)), look["color"]))
        if part == MEAN:
            panel.set(ylim=(0, 1.25 * rows["high"].max()))
        style.label_ends(panel, labels)
    axes[0].set(ylabel="oracle's reward over $π_{SFT}$ (sd)", title="advantage over $π_{SFT}$")
    axes[1].set(ylabel="difference from DPO (sd)", title="the same less DPO's, world by world")
    twin = f"our tabular twin, {data['seed'].nunique()} worlds; bands: 95% intervals\n"
    subsets = "e-dpo (subsets): its rewards are trained at other ρ\n"
    style.note(axes[0], twin + subsets + "the paper's curves are not in our text")


def _registered(method: str) -> str:
    return "e-dpo" if method == SUBSETS else method


def _label(method: str) -> str:
    return "e-dpo (subsets)" if method == SUBSETS else method


def caption(data: pd.DataFrame) -> str:
    """Who is ahead of DPO where labels are hardest, and how many methods do as the paper says of its figure."""
    change, worlds = data[data["part"] == CHANGE], data["seed"].nunique()
    hardest = data.loc[data["part"] == MEAN, "rho"].min()
    against = data[(data["part"] == AGAINST) & (data["rho"] == hardest) & (data["method"] != BASELINE)]
    less = some(int((change["high"] < 0).sum()), len(change))
    return (
        f"Where {hardest:.0%} of labels prefer the longer response, {_beside(against)} in oracle reward. "
        f"The paper's observation that gains are smaller at ρ < ½ than above holds for {less} methods on {worlds} worlds of our "
        f"tabular twin."
    )


def _beside(rows: pd.DataFrame) -> str:
    """Who is surely above DPO, and who below, by up to how much; in words."""
    above, below = rows[rows["low"] > 0], rows[rows["high"] < 0]
    sides = [(above, "beats", "beat", "DPO by"), (below, "trails", "trail", "it by" if len(above) else "DPO by")]
    told = [
        f"{listed([_spelled(m) for m in side['method']])} {one if len(side) == 1 else many} {end} "
        f"{'up to ' if len(side) > 1 else ''}{short(side['value'].abs().max())} sd"
        for side, one, many, end in sides
        if len(side)
    ]
    return " and ".join(told) or "no method surely differs from DPO"


def _spelled(method: str) -> str:
    return written(_label(method))


FIGURE = Figure(
    name="length-bias",
    title="oracle advantage against the length bias of the training set, on a tabular twin of the experiment",
    source="distillation Fig. 2",
    config=Config(),
    fast=Config(rhos=(0.2, 0.5, 0.8), seeds=(100, 4)),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(columns=2, wide=True, height=2.7),
)

"""How much of the information in a comparison every objective uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from figures.figure import Figure, Layout
from figures.sweeps import ZERO, share
from figures.words import opening, power, shares, short, written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Curves that differ by less than this everywhere are drawn as one.
SAME = 0.025
# A method whose efficiency has fallen to this for good no longer learns much from more data.
HALF = 0.5


@dataclass(frozen=True)
class Config:
    """What is simulated.

    Attributes:
        without: registered methods that are left out.
        decades: log₁₀ of the sizes: first, last and step.
        seeds: data sets at each size.
    """

    without: tuple[str, ...] = ()
    decades: tuple[float, float, float] = (3.5, 9.0, 0.5)
    seeds: int = 100


def data(config: Config) -> pd.DataFrame:
    """Rows of two parts.

    ``run``: a method, n and data set, its forward KL (nats) and efficiency c/(n·KL), at the values that are best for the
    population. ``method``: its floor (nats), the n from which c over n times the mean KL stays below ½ (∞ if it does not
    within the sizes), and the ``leader`` of the methods whose curves coincide with its own.
    """
    import numpy as np
    import pandas as pd

    from theory import objectives
    from theory.audit.efficiency import fit_many
    from theory.audit.subject import Subject
    from theory.simulation import distance_to_target
    from theory.statistics.efficiency import asymptotic_constant, efficiency

    first, last, step = config.decades
    sizes = [round(10**k) for k in np.arange(first, last + step / 2, step)]
    runs, methods, curves = [], [], {}
    for name in objectives.names():
        if name in config.without:
            continue
        subject = Subject(objectives.get(name))
        distance, constant = distance_to_target(subject.instance), asymptotic_constant(subject.instance)
        errors = np.array([distance([fit_many(subject, n, config.seeds)]).numpy() for n in sizes])
        for n, row in zip(sizes, errors, strict=True):
            runs += [("run", name, float(n), seed, float(kl), efficiency(constant, n, float(kl))) for seed, kl in enumerate(row)]
        curves[name] = constant / (np.array(sizes) * errors.mean(1))
        methods.append(("method", name, subject.limit.forward_kl, half_life(sizes, curves[name])))
    table = pd.DataFrame(runs, columns=["part", "method", "n", "seed", "forward_kl", "efficiency"])
    facts = pd.DataFrame(methods, columns=["part", "method", "floor", "half"])
    return pd.concat([table, facts.assign(leader=facts["method"].map(leaders(curves)))], ignore_index=True)


def half_life(sizes: Sequence[float], curve: Sequence[float]) -> float:
    """The n from which a curve stays below ½, between the sizes along a line in log n; ∞ if it ends above."""
    import numpy as np

    above = np.flatnonzero(np.asarray(curve) >= HALF)
    if not len(above):
        return float(sizes[0])
    last = int(above[-1])
    if last == len(sizes) - 1:
        return float("inf")
    log_n = np.log(np.asarray(sizes, dtype=float)[last : last + 2])
    share = (curve[last] - HALF) / (curve[last] - curve[last + 1])
    return float(np.exp(log_n[0] + share * (log_n[1] - log_n[0])))


def leaders(curves: dict[str, Sequence[float]]) -> dict[str, str]:
    """For each method the first one whose curve differs from its own by less than `SAME` at every size."""
    import numpy as np

    found: dict[str, str] = {}
    for name, curve in curves.items():
        near = (lead for lead in found.values() if np.abs(np.asarray(curves[lead]) - curve).max() < SAME)
        found[name] = next(near, name)
    return found


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Left the curves, one of each that coincide; right where every method's efficiency falls to a half."""
    left, right = axes
    methods = data[data["part"] == "method"].sort_values(["half", "method"], ascending=[True, False])
    runs = data[data["part"] == "run"]
    _curves(left, runs, methods)
    _lives(right, methods, runs["n"].min(), runs["n"].max())


def _curves(panel: Axes, runs: pd.DataFrame, methods: pd.DataFrame) -> None:
    import numpy as np

    from figures import style

    n = np.sort(runs["n"].unique())
    style.limit(panel, n, np.ones(len(n)), "Cramér–Rao limit")
    leads = methods[methods["method"] == methods["leader"]]
    for _, lead in leads.iterrows():
        rows, name = runs[runs["method"] == lead["method"]], lead["method"]
        reaches, at = lead["floor"] <= ZERO, rows.groupby("n")["efficiency"]
        # The mean error, not the mean of its inverse, is what c/n bounds.
        curve = (rows["efficiency"] * rows["forward_kl"]).groupby(rows["n"]).first() / rows.groupby("n")["forward_kl"].mean()
        if reaches:
            style.band(panel, n, at.quantile(0.1), at.quantile(0.9), style.colour(name))
        look = style.method(name, linewidth=1.8 if reaches else 1.1, alpha=1.0 if reaches else 0.75, markersize=2.5)
        panel.plot(curve.index, curve, label=name, **look)
        together = methods.loc[methods["leader"] == name, "method"]
        if reaches:
            panel.text(n[-1], 0.74, "\n".join(sorted(together)), ha="right", va="top", fontsize=6.5, color=look["color"])
        elif _alone(lead["half"], leads["half"]):
            panel.text(1.15 * lead["half"], HALF, ", ".join(together), fontsize=6.5, color=look["color"], va="center")
    panel.set(xscale="log", xlabel="comparisons n", ylabel="efficiency $c/(n·\\mathrm{KL})$", ylim=(0, 1.42))
    words = "dashed: Cramér–Rao limit\nband: 10th–90th percentile\nwithout a name: see right"
    style.note(panel, words, at=(0.98, 0.12), ha="right")


def _alone(half: float, others: pd.Series) -> bool:
    """Whether no other curve falls through a half within a factor of 1.5, so that a name fits beside this one."""
    return bool(((others / half).between(1 / 1.5, 1.5)).sum() == 1)


def _lives(panel: Axes, methods: pd.DataFrame, low: float, high: float) -> None:
    from figures import style

    for place, (_, row) in enumerate(methods.iterrows()):
        look = style.method(row["method"], linewidth=1.0)
        ends = min(row["half"], high)
        panel.plot([low, ends], [place, place], **{**look, "marker": "none"})
        panel.plot([ends], [place], **({**look, "marker": ">"} if ends < row["half"] else look))
        words = "never" if row["floor"] <= ZERO else f"floor {row['floor']:.2g} nats"
        panel.annotate(
            words,
            (ends, place),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=6,
            va="center",
            color=style.GREY,
            annotation_clip=False,
        )
    panel.set_yticks(range(len(methods)), list(methods["method"]))
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)
    panel.set(xscale="log", xlabel="n beyond which the efficiency stays below ½", xlim=(0.85 * low, 1.3 * high))


def caption(data: pd.DataFrame) -> str:
    """Who keeps all of the information, and when the others have lost half of it."""
    methods = data[data["part"] == "method"].sort_values(["half", "method"])
    reach = sorted(methods.loc[methods["floor"] <= ZERO, "method"])
    others = methods[methods["floor"] > ZERO]
    runs = data[(data["part"] == "run") & data["method"].isin(reach)]
    first = f"{opening(written(*reach))} {_shares(runs)}" if reach else "No method reaches the target"
    if others.empty:
        return f"{first}. None of the methods has a floor, so that none loses its efficiency for good."
    lost = others[others["half"] < float("inf")]
    ends = " to ".join(short(end) for end in sorted({others["floor"].min(), others["floor"].max()}))
    fall = f"{'The other' if reach else 'All'} {len(others)} stop at floors of {ends} nats, and "
    if lost.empty:
        return f"{first}. {fall}none of them is yet below half of it at the largest n."
    latest = lost.iloc[-1]
    many = "all" if len(lost) == len(others) else str(len(lost))
    return f"{first}. {fall}{many} use less than half from n = {power(latest['half'], 1)} on, {written(latest['method'])} last."


def _shares(runs: pd.DataFrame) -> str:
    """What share of the information the methods use at the largest n, one number where they agree."""
    end = runs[runs["n"] == runs["n"].max()]
    constant = float((end["efficiency"] * end["forward_kl"] * end["n"]).iloc[0])
    found = [share(constant, end["n"].iloc[0], rows["forward_kl"].to_numpy()) for _, rows in end.groupby("method")]
    verb = "uses" if len(found) == 1 else "use"
    return f"{verb} " + shares(found, SAME, f"the whole information in {power(end['n'].iloc[0])} comparisons")


FIGURE = Figure(
    name="efficiency",
    title="statistical efficiency c/(n·KL) against n, all methods",
    source="in no paper; math of unified Theorems 4, 6 and 7 made sharp",
    config=Config(),
    # What is left out is slow to tune and, χPO apart, falls where RLHF does.
    fast=Config(without=("chipo", "dp-dpo", "e-dpo", "hypo", "rebel"), decades=(3.5, 9.0, 0.5), seeds=24),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(columns=2, wide=True, height=2.7),
)

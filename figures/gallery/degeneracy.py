"""Where DPO's mass goes on pairs that are disjoint, and on pairs whose labels are not deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.words import listed, short, written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from theory.objectives import Objective

# What the parts of the table are called, and the panels of its trajectories.
FLOW, EDGE, CHANCE, EXACT, MASS = "flow", "edge", "chance", "exact", "mass"
ONE_WAY, BOTH_WAYS, OTHERS = "one way", "both ways", "others"
SHARED = "dpo, shared parameters"
REFERENCE = "π_ref"
# Of the triangle.
HEIGHT = 3**0.5 / 2
# Probability that stands for none at all: its log is finite.
NONE = 1e-150


@dataclass(frozen=True)
class Config:
    """What is computed.

    Attributes:
        references: π_ref of (winner, loser, unseen) from which gradient flow starts.
        decades: log₁₀ of the first and the last time of the flow.
        points: of each trajectory.
        votes: labels for and against the winner of the pair that is labelled both ways.
        beta: of DPO, on every panel.
        pmle_beta: of PMLE's KL term, on every panel.
        labels: labels a pair.
        preferences: P(y ≻ y') of every pair, for the chance that labels agree.
        shown: those of them for which masses are shown.
        pairs, unseen: of the data sets with several pairs.
        data_sets: at each number of labels and P.
    """

    references: tuple[tuple[float, float, float], ...] = (
        (0.15, 0.7, 0.15),
        (0.2, 0.5, 0.3),
        (0.3, 0.3, 0.4),
        (0.5, 0.4, 0.1),
        (0.1, 0.2, 0.7),
        (0.1, 0.35, 0.55),
    )
    decades: tuple[float, float] = (-2.0, 6.0)
    points: int = 120
    votes: tuple[float, float] = (3.0, 1.0)
    beta: float = 1.0
    pmle_beta: float = 0.5
    labels: tuple[int, ...] = (1, 2, 3, 5, 8, 12, 20)
    preferences: tuple[float, ...] = (0.5, 0.7, 0.9, 1.0)
    shown: tuple[float, ...] = (0.5, 0.9)
    pairs: int = 5
    unseen: int = 2
    data_sets: int = 200


def data(config: Config) -> pd.DataFrame:
    """One row a value; ``part`` says of what.

    Parts: ``flow`` (a policy over winner, loser and an unseen response at a time of gradient flow from π_ref), ``edge``
    (DPO's loss, nats, of policies without the loser on the pair labelled once), ``chance`` (the share of data sets on which
    DPO has no finite minimiser, with a Wilson interval), ``exact`` (its probability) and ``mass`` (the mean probability on
    the winners of unanimous pairs, and on pairs labelled both ways, under the estimate that a ridge of 1e-6 bounds, and
    under π_ref).
    """
    import pandas as pd

    return pd.concat([pd.DataFrame(part(config)) for part in (_flows, _edge, _masses)], ignore_index=True)


def _edge(config: Config) -> list[dict[str, Any]]:
    """The policies that give the pair's loser nothing, and any share to the unseen response."""
    import numpy as np

    from paper_checks.drdo.complement import loss_on

    shares = [float(share) for share in np.linspace(1e-6, 1 - 1e-6, 21)]
    losses = [loss_on([(0, 1, 1.0)], np.log([1 - share, NONE, share]), config.beta) for share in shares]
    named = {"part": EDGE, "panel": ONE_WAY, "method": "dpo", "loser": NONE}
    return [{**named, "winner": 1 - u, "unseen": u, "value": loss} for u, loss in zip(shares, losses, strict=True)]


@dataclass(frozen=True)
class Run:
    """One trajectory: where it is drawn, who takes it, on which (winner, loser, count) triples, and from where."""

    panel: str
    method: str
    objective: Objective
    beta: float | None
    edges: tuple[tuple[int, int, float], ...]
    start: tuple[float, float, float]
    features: tuple[tuple[float], ...] | None = None


def _runs(config: Config) -> list[Run]:
    """Every method from every reference; with shared parameters from the uniform one.

    DRDO's is the flow of its focal term, since a head of its own leaves nothing else to the policy.
    """
    from paper_checks.drdo.focal_minima import FOCAL
    from theory import objectives

    dpo, pmle = objectives.get("dpo"), objectives.get("pmle")
    one, both = ((0, 1, 1.0),), ((0, 1, config.votes[0]), (1, 0, config.votes[1]))
    uniform, features = (1 / 3, 1 / 3, 1 / 3), ((1.0,), (0.0,), (2.0,))
    return [
        *(Run(ONE_WAY, "dpo", dpo, config.beta, one, start) for start in config.references),
        Run(ONE_WAY, SHARED, dpo, config.beta, one, uniform, features),
        *(Run(BOTH_WAYS, "dpo", dpo, config.beta, both, start) for start in config.references),
        *(Run(OTHERS, "pmle", pmle, config.pmle_beta, one, start) for start in config.references),
        *(Run(OTHERS, "drdo", FOCAL, None, one, start) for start in config.references),
    ]


def _flows(config: Config) -> list[dict[str, Any]]:
    """Trajectories."""
    import numpy as np

    from paper_checks.drdo.comparisons import task_of
    from paper_checks.drdo.flow import gradient_flow

    times = [float(time) for time in np.logspace(*config.decades, config.points)]
    rows = []
    for number, run in enumerate(_runs(config)):
        task = task_of(run.edges, 3, reference=run.start, features=run.features)
        values = {} if run.beta is None else {"beta": run.beta}
        logp = gradient_flow(run.objective, task, times, reward=None, **values)
        votes = " to ".join(f"{count:g}" for *_, count in run.edges)
        named = {"part": FLOW, "panel": run.panel, "method": run.method, "run": number, "beta": run.beta, "votes": votes}
        for time, policy in zip([0.0, *times], np.vstack([run.start, np.exp(logp)]), strict=True):
            rows.append({**named, "time": time, **dict(zip(("winner", "loser", "unseen"), map(float, policy), strict=True))})
    return rows


def _masses(config: Config) -> list[dict[str, Any]]:
    """Chances and masses at every number of labels."""
    from theory import objectives
    from theory.degeneracy import Design, degeneracy, unanimity
    from theory.statistics.rates import proportion

    design, sets = Design(config.pairs, config.unseen, config.data_sets), config.data_sets
    settings = {"dpo": {"beta": config.beta}, "pmle": {"beta": config.pmle_beta}, "drdo": {}}
    rows: list[dict[str, Any]] = []
    for preference in config.preferences:
        for labels in range(min(config.labels), max(config.labels) + 1):
            none = 1 - (1 - unanimity(labels, preference)) ** config.pairs
            rows.append({"part": EXACT, "method": "dpo", "preference": preference, "labels": labels, "value": none})
        for labels in config.labels:
            at = {"preference": preference, "labels": labels, "pairs": config.pairs}
            methods = list(settings) if preference in config.shown else ["dpo"]
            found = {m: degeneracy(objectives.get(m), settings[m], design, labels, preference) for m in methods}
            without = vars(proportion(round((1 - found["dpo"].finite) * sets), sets))
            rows.append({"part": CHANCE, "method": "dpo", **without, **at})
            if preference in config.shown:
                masses = {REFERENCE: found["dpo"].reference_mass, **{m: row.mass for m, row in found.items()}}
                rows += [
                    {"part": MASS, "method": m, "value": p["winner"], "contested": p["contested"], **at}
                    for m, p in masses.items()
                ]
    return rows


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Trajectories above; chances and masses below."""
    from figures import style

    flows, masses = data[data["part"] == FLOW], data[data["part"] == MASS]
    for panel, (name, rows) in zip(axes[:3], flows.groupby("panel", sort=False), strict=True):
        edge = data[(data["part"] == EDGE) & (data["panel"] == name)]
        _simplex(panel, rows, edge)
        votes = rows["votes"].iloc[0]
        panel.set_title(f"labels {votes} for $y_w$" if " to " in votes else "one label, $y_w ≻ y_l$")
    style.note(axes[0], "dashed:\nshared\nparameters", (0.0, 0.98), va="top")
    style.note(axes[0], "band:\nleast loss", (1.0, 0.58), ha="right")
    style.note(axes[1], "grey: $π_{ref}$", (0.0, 0.98), va="top")
    _chances(axes[3], data[data["part"] == CHANCE], data[data["part"] == EXACT])
    for panel, (preference, rows) in zip(axes[4:], masses.groupby("preference"), strict=True):
        _shares(panel, rows)
        panel.set_title(f"mass on unanimous winners, $P = {preference:g}$")
    axes[4].legend(loc="upper right")


def _simplex(panel: Axes, rows: pd.DataFrame, edge: pd.DataFrame) -> None:
    """Trajectories in the triangle of winner (right), loser (left) and the unseen response (top)."""
    from figures import style

    panel.plot([0, 1, 0.5, 0], [0, 0, HEIGHT, 0], color="black", linewidth=0.7, label="_triangle")
    if len(edge):
        panel.plot(*_flat(edge), color=style.colour("dpo"), linewidth=6, alpha=0.3, solid_capstyle="butt", label=EDGE)
    for (method, _), run in rows.groupby(["method", "run"], sort=False):
        shared = method == SHARED
        look = style.method("dpo" if shared else str(method), linewidth=0.9, linestyle="--" if shared else "-", marker="")
        panel.plot(*_flat(run), label=method, **look)
        panel.plot(*_flat(run.iloc[:1]), color=style.GREY, marker=".", markersize=4, linestyle="none", label="_start")
        end: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": "none", "clip_on": False, "label": "_end"}
        panel.plot(*_flat(run.iloc[-1:]), color=look["color"], **end)
    _name_methods(panel, rows)
    for x, y, text, left in ((0.0, 0.0, "$y_l$", True), (1.0, 0.0, "$y_w$", False), (0.5, HEIGHT, "unseen", False)):
        place: dict[str, Any] = {"xytext": (-6 if left else 6, 0), "ha": "right" if left else "left", "va": "center"}
        panel.annotate(text, (x, y), textcoords="offset points", **place)
    panel.set_aspect("equal")
    panel.axis("off")


def _flat(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Places in the triangle."""
    return rows["winner"] + rows["unseen"] / 2, HEIGHT * rows["unseen"]


def _name_methods(panel: Axes, rows: pd.DataFrame) -> None:
    """Names and what they were run with, in their colours."""
    from figures import style

    named = rows[rows["method"] != SHARED].drop_duplicates("method")
    for rank, (method, beta) in enumerate(named[["method", "beta"]].itertuples(index=False)):
        with_beta = f", $β = {beta:g}$" if beta > 0 else ""
        style.note(panel, method + with_beta, (1.0, 0.75 - 0.1 * rank), ha="right", color=style.colour(method))


def _chances(panel: Axes, rows: pd.DataFrame, exact: pd.DataFrame) -> None:
    """How often DPO has no finite minimiser."""
    from figures import style

    color, labels = style.colour("dpo"), []
    for _, line in rows.groupby("preference"):
        bars = [line["value"] - line["low"], line["high"] - line["value"]]
        panel.errorbar(line["labels"], line["value"], bars, color=color, fmt="o", markersize=3, elinewidth=0.8)
    for preference, line in exact.groupby("preference"):
        panel.plot(line["labels"], line["value"], color=color, linewidth=1.0, label=f"{preference:g}")
        labels.append((line["labels"].iloc[-1], line["value"].iloc[-1], f"$P = {preference:g}$", color))
    panel.set(ylabel="share of data sets", title="DPO has no finite minimiser")
    style.note(panel, f"{rows['pairs'].iloc[0]:g} pairs; line: exact;\nbars: 95% Wilson")
    _finish(panel, rows)
    style.label_ends(panel, labels)


def _shares(panel: Axes, rows: pd.DataFrame) -> None:
    """How much each method gives to the winners of unanimous pairs."""
    from figures import style

    for method, line in rows.groupby("method", sort=False):
        given = {"color": style.GREY, "linestyle": ":", "label": "$π_{ref}$"}
        look = given if method == REFERENCE else style.method(str(method), label=method)
        panel.plot(line["labels"], line["value"], **look)
    panel.set(ylabel="mean probability")
    _finish(panel, rows)


def _finish(panel: Axes, rows: pd.DataFrame) -> None:
    labels = sorted(int(m) for m in rows["labels"].unique())
    panel.set(xscale="log", ylim=(-0.05, 1.05), xlabel="labels a pair, $P = P(y ≻ y')$ each")
    panel.set_xticks(labels, [str(m) for m in labels])
    panel.minorticks_off()


def caption(data: pd.DataFrame) -> str:
    """What chance agreement of labels does to DPO, and to the others."""
    exact, mass = (data[data["part"] == part].set_index(["preference", "labels"]) for part in (EXACT, MASS))
    given = {str(method): rows["value"] for method, rows in mass.groupby("method", sort=False)}
    at = (given["dpo"] - given[REFERENCE]).loc[[mass.index[0][0]]].idxmax()
    others = listed([f"{_spelled(method)} {short(values[at])}" for method, values in given.items() if method != "dpo"])
    return (
        f"With {at[1]:.0f} labels a pair at P = {at[0]:g}, labels agree by chance so often that DPO has no finite minimiser on "
        f"{exact.loc[at, 'value']:.0%} of data sets of {mass.loc[[at], 'pairs'].iloc[0]:.0f} pairs. It puts "
        f"{short(given['dpo'][at])} of its mass on winners of unanimous pairs on average, and {others}."
    )


def _spelled(method: str) -> str:
    return method if method == REFERENCE else written(method)


FIGURE = Figure(
    name="degeneracy",
    title="DPO on disjoint and on non-deterministic pairs: trajectories on the simplex, and where the mass goes",
    source="drdo Lemma 1; unified §3 and the distillation paper on DPO's degeneracy",
    config=Config(),
    fast=Config(references=Config.references[:2], points=40, labels=(1, 3, 10), data_sets=40),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(rows=2, columns=3, wide=True, height=4.2),
)

"""Error against the coverage coefficient: PMLE and RKL part ways where rewards come from a smaller class than policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.words import power, short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from theory.instances import Instance
    from theory.instances.tabular import Array

EQUAL, SMALLER = "one class for both: the table", "policies: the table; rewards: 3 features"
# Mean errors this near to each other (relative) are the same policies, solved to a gradient of 1e-10.
SAME = 1e-4


@dataclass(frozen=True)
class Curve:
    """A method with its two classes.

    Attributes:
        panel, label: where it is drawn, and its name there.
        method: registered name.
        policies, rewards: class of each.
        tuned: the best β for every data set; else β = 0 and no ridge, as the theorems take it.
    """

    panel: str
    label: str
    method: str
    policies: str = "table"
    rewards: str = "table"
    tuned: bool = False


CURVES = (
    Curve(EQUAL, "PMLE", "pmle"),
    Curve(EQUAL, "RKL", "rkl"),
    Curve(EQUAL, "RLHF", "rlhf", tuned=True),
    Curve(EQUAL, "DPO", "dpo", tuned=True),
    Curve(EQUAL, "DRDO", "drdo", tuned=True),
    Curve(SMALLER, "PMLE", "pmle"),
    Curve(SMALLER, "RKL", "rkl", rewards="log-linear"),
    Curve(SMALLER, "PMLE, 3 features", "pmle", policies="log-linear"),
    Curve(SMALLER, "RLHF", "rlhf", rewards="log-linear", tuned=True),
)


@dataclass(frozen=True)
class Config:
    """What is simulated.

    Attributes:
        coverages: C of the table, reached by tilting the data policy away from the target.
        slope_from: slopes are fitted from this C on; nearer to 1 even an efficient estimate does not follow C.
        n: comparisons in a data set.
        sets: data sets at each C.
    """

    coverages: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
    slope_from: float = 10.0
    n: int = 10**9
    sets: int = 200


def data(config: Config) -> pd.DataFrame:
    """Rows of four kinds (``part``): errors, limits, and what the errors say of the classes.

    ``error``: forward KL (nats) of one data set. ``limit``: c/n of an efficient estimate in the smaller of the two
    classes. ``slope``: of log error in log C, with its 95 % interval. ``ratio``: mean error over RKL's in the same
    panel, on the same data sets at the largest C, with its 99 % interval.
    """
    import pandas as pd

    from paper_checks.unified.reward_class import instance_at, ratio
    from theory.statistics.rates import slope

    frames = []
    for coverage in config.coverages:
        instance, features = instance_at(coverage)
        for curve in CURVES:
            shared = {**_named("error", curve), "coverage": coverage}
            frames.append(pd.DataFrame({**shared, "value": errors(instance, curve, config)}))
        shared = {"part": "limit", "coverage": coverage, "label": "Cramér–Rao limit"}
        frames.append(pd.DataFrame([{**shared, "panel": k, "value": c / config.n} for k, c in _constants(instance, features)]))
    found = pd.concat(frames, ignore_index=True)
    late = found[(found["part"] == "error") & (found["coverage"] >= config.slope_from)]
    last = late[late["coverage"] == late["coverage"].max()]
    rows = []
    for curve in CURVES:
        mine = _of(late, curve.panel, curve.label)
        rows.append({**_named("slope", curve), **vars(slope(mine["coverage"].to_numpy(), mine["value"].to_numpy()))})
        pair = [_of(last, curve.panel, label)["value"].to_numpy() for label in (curve.label, "RKL")]
        rows.append({**_named("ratio", curve), "coverage": last["coverage"].iloc[0], **vars(ratio(*pair))})
    return pd.concat([found, pd.DataFrame(rows)], ignore_index=True)


def _named(part: str, curve: Curve) -> dict[str, Any]:
    return {"part": part, "panel": curve.panel, "label": curve.label, "method": curve.method}


def _of(rows: pd.DataFrame, panel: str, label: str) -> pd.DataFrame:
    return rows[(rows["panel"] == panel) & (rows["label"] == label)]


def errors(instance: Instance, curve: Curve, config: Config) -> Array:
    """Forward KL (nats) of every data set."""
    from paper_checks.unified import limits
    from theory import objectives
    from theory.simulation import Settings, draw_data, make_task, solve

    if not curve.tuned:
        how = limits.settings(curve.method, curve.policies, curve.rewards)
        return limits.errors(instance, how, config.n, config.sets, seed=1)
    settings = Settings(objectives.get(curve.method), policy_class=curve.policies, reward_class=curve.rewards)
    data = draw_data(instance, config.n, 1, range(config.sets))
    return solve(instance, make_task(instance, data, settings), settings).forward_kl


def _constants(instance: Instance, features: Array) -> list[tuple[str, float]]:
    """c of an efficient estimate in each class, by the panel in which it is the least that can be had."""
    from paper_checks.unified.limits import class_constant
    from theory.statistics.efficiency import asymptotic_constant

    return [(EQUAL, asymptotic_constant(instance)), (SMALLER, class_constant(instance, features))]


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Means with bands, slopes at their ends, and the Cramér–Rao limit of the class."""
    from figures import style

    slopes = data[data["part"] == "slope"].set_index(["panel", "label"])
    for panel, (name, rows) in zip(axes, data.groupby("panel", sort=False), strict=True):
        labels, measured = [], rows[rows["part"] == "error"]
        for rank, (label, of_curve) in enumerate(measured.groupby("label", sort=False)):
            at, method = of_curve.groupby("coverage")["value"], str(of_curve["method"].iloc[0])
            dashed = {"linestyle": "--"} if "," in str(label) else {}
            look = style.method(method, linewidth=max(0.8, 2.0 - 0.4 * rank), label=label, **dashed)
            panel.plot(at.mean().index, at.mean(), **look)
            style.band(panel, at.mean().index, at.quantile(0.1), at.quantile(0.9), look["color"])
            slope = slopes.loc[(name, label)]
            text = f"{label}: {round(slope['value'], 2) + 0:.2f} ± {(slope['high'] - slope['low']) / 2:.2f}"
            labels.append((at.mean().index[-1], at.mean().iloc[-1], text, look["color"]))
        limit = rows[rows["part"] == "limit"]
        style.limit(panel, limit["coverage"], limit["value"], "Cramér–Rao limit")
        panel.set(xscale="log", yscale="log", title=name, xlabel="coverage coefficient $C_Π$ of the table")
        style.label_ends(panel, labels)
    low, high = (f(panel.get_ylim()[k] for panel in axes) for k, f in enumerate((min, max)))
    for panel in axes:
        panel.set_ylim(low, high)
    axes[0].set_ylabel("forward KL to the target (nats)")
    style.note(
        axes[0], "numbers: slopes, with 95 % intervals\ndashed black: Cramér–Rao limit of the class\nbands: 10th–90th percentile"
    )


def caption(data: pd.DataFrame) -> str:
    """What parts PMLE and RKL."""
    slopes, ratios = (data[data["part"] == part].set_index(["panel", "label"]) for part in ("slope", "ratio"))
    apart = ratios.loc[(SMALLER, "PMLE")]
    surely = "" if apart["low"] > 1 else " (not surely different)"
    return (
        f"With one class for policies and rewards {_beside(ratios.loc[(EQUAL, 'PMLE')], 'PMLE')} and grows like "
        f"C^{slopes.loc[(EQUAL, 'PMLE'), 'value']:.2f} in the coverage coefficient C. With rewards of three features RKL's "
        f"grows like C^{slopes.loc[(SMALLER, 'RKL'), 'value']:.2f} and PMLE's is {short(apart['value'])} times RKL's{surely} at "
        f"C = {power(apart['coverage'])}: {_verdict(ratios)}."
    )


def _beside(ratio: pd.Series, name: str) -> str:
    same = abs(ratio["value"] - 1) <= SAME
    return f"{name}'s error equals RKL's" if same else f"{name}'s error is {short(ratio['value'])} times RKL's"


def _verdict(ratios: pd.DataFrame) -> str:
    """What parts PMLE and RKL, if the data tell: given the features too, PMLE must be RKL again."""
    shared = [ratios.loc[key, "value"] for key in ((EQUAL, "PMLE"), (SMALLER, "PMLE, 3 features"))]
    told = all(abs(value - 1) <= SAME for value in shared) and ratios.loc[(SMALLER, "PMLE"), "low"] > 1
    return "the class parts them, not the objective" if told else "the class alone does not explain what parts them"


FIGURE = Figure(
    name="coverage",
    title="error against the coverage coefficient: what a smaller reward class is worth to RKL",
    source="unified Theorems 4 and 7",
    config=Config(),
    fast=Config(coverages=(1.0, 10.0, 100.0, 1e3, 1e4), sets=30),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(columns=2, wide=True, height=2.7),
)

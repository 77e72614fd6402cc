"""RLHF's dilemma: along β it underfits at one end and collapses at the other, and no β in between reaches the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.words import short, written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from theory.instances import Instance
    from theory.instances.tabular import Array

METHODS = ("rlhf", "rkl")


@dataclass(frozen=True)
class Config:
    """What is fitted.

    Attributes:
        sizes: comparisons in a data set; n = ∞, the population, is always added.
        betas: log₁₀ of the least and of the largest β, and how many there are.
        sets: data sets at each size.
    """

    sizes: tuple[float, ...] = (1e3, 1e5, 1e7)
    betas: tuple[float, float, int] = (-3.0, 2.0, 81)
    sets: int = 100


def data(config: Config) -> pd.DataFrame:
    """One row a method, n and β: the mean forward KL (nats), with its 10th and 90th percentile over data sets.

    Two rows are levels: ``floor``, the least that RLHF has at any β at n = ∞, and ``reference``, π_ref itself.
    """
    import numpy as np
    import pandas as pd
    import torch

    from paper_checks.unified.dilemma import least_error
    from paper_checks.unified.tasks import distance
    from theory.instances import random_instance

    instance, rows = random_instance(0), []
    betas = np.logspace(*config.betas)
    for method in METHODS:
        for n in (*config.sizes, np.inf):
            errors = along(instance, method, n, betas, config.sets)
            low, high = np.quantile(errors, [0.1, 0.9], axis=1)
            shared = {"part": "path", "method": method, "n": n, "beta": betas}
            rows.append(pd.DataFrame({**shared, "forward_kl": errors.mean(1), "low": low, "high": high}))
    reference = float(distance(instance, torch.from_numpy(np.log(instance.reference))[None])[0])
    for part, level in (("floor", least_error(instance)), ("reference", reference)):
        shared = {"part": part, "method": "rlhf", "n": np.inf, "beta": np.nan}
        rows.append(pd.DataFrame([{**shared, "forward_kl": level, "low": level, "high": level}]))
    return pd.concat(rows, ignore_index=True)


def along(instance: Instance, name: str, n: float, betas: ArrayLike, sets: int) -> Array:
    """Forward KL (nats) of a method at every β (rows) on every data set (columns)."""
    import numpy as np

    from theory import objectives
    from theory.simulation import Settings, distance_to_target, draw_data, make_task
    from theory.solvers.selection import Search

    objective = objectives.get(name)
    search = Search(objective, [make_task(instance, draw_data(instance, n, 0, range(sets)), Settings(objective))])
    measure = distance_to_target(instance)
    tried = [objective.resolve({"beta": beta}) for beta in np.asarray(betas).tolist()]
    return np.stack([measure(search.fit(search.full(v), search.references(), certify=False)).numpy() for v in tried])


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Paths along β, thicker with n; the floor of RLHF and its place."""
    import numpy as np

    from figures import style

    (panel,) = axes
    paths, floor = data[data["part"] == "path"], data[data["part"] == "floor"].iloc[0]
    for method, of_method in paths.groupby("method", sort=False):
        for rank, (n, rows) in enumerate(of_method.groupby("n")):
            given = {"marker": "", "linewidth": 0.6 + 0.4 * rank, "label": f"{method}, n = {n:g}"}
            panel.plot(rows["beta"], rows["forward_kl"], **style.method(str(method), **given))
            style.band(panel, rows["beta"], rows["low"], rows["high"], style.colour(str(method)))
            if method != floor["method"]:
                offset = (4, 4) if np.isfinite(n) else (12, -1)
                _at(panel, rows.iloc[0], f"{written(str(method))}, $n = {_size(n)}$", offset, str(method))
    style.floor(panel, floor["forward_kl"], style.colour("rlhf"))
    least = _least(data, "rlhf", np.inf)
    panel.plot([least["beta"]], [least["forward_kl"]], **style.method("rlhf", marker="o", markersize=4, linestyle="none"))
    panel.set(xscale="log", yscale="log", xlabel="weight β of KL(π‖π$_{ref}$)", ylabel="forward KL to the target (nats)")
    panel.set_xlim(paths["beta"].min(), paths["beta"].max())
    _at(panel, floor.fillna(paths["beta"].min()), f"floor of RLHF: {floor['forward_kl']:.3f}", (4, -8), "rlhf")
    _at(panel, least, f"least at\nβ = {least['beta']:.1f}", (0, -12), "rlhf", ha="center", va="top")
    style.note(panel, "RLHF collapses\nas β → 0", (0.36, 0.93), color=style.colour("rlhf"), fontsize=style.SMALL + 1, va="top")
    style.note(panel, "RLHF underfits\nat large β", (0.70, 0.70), color=style.colour("rlhf"), fontsize=style.SMALL + 1)
    style.note(panel, "thicker: more comparisons, to $n = ∞$\nbands: 10th–90th percentile", (0.97, 0.04), ha="right")


def _at(panel: Axes, point: pd.Series, text: str, offset: tuple[float, float], name: str, **given: Any) -> None:
    """A few words beside a point of the data, in the colour of a method."""
    from figures import style

    look = {"color": style.colour(name), "fontsize": style.SMALL, **given}
    panel.annotate(text, (point["beta"], point["forward_kl"]), offset, textcoords="offset points", **look)


def _size(n: float) -> str:
    """A power of ten as it is printed."""
    import math

    return "∞" if math.isinf(n) else f"10^{{{math.log10(n):.0f}}}"


def _path(data: pd.DataFrame, method: str, n: float) -> pd.DataFrame:
    return data[(data["part"] == "path") & (data["method"] == method) & (data["n"] == n)]


def _least(data: pd.DataFrame, method: str, n: float) -> pd.Series:
    """The row of the β with the least forward KL."""
    rows = _path(data, method, n)
    return rows.loc[rows["forward_kl"].idxmin()]


def caption(data: pd.DataFrame) -> str:
    """Where RLHF is stuck at n = ∞, and where RKL goes."""
    import numpy as np

    rlhf, rkl = (_path(data, method, np.inf).sort_values("beta") for method in METHODS)
    best, low, high, first = _least(data, "rlhf", np.inf), rlhf.iloc[0], rlhf.iloc[-1], rkl.iloc[0]
    floor = data.loc[data["part"] == "floor", "forward_kl"].iloc[0]
    inside = low["beta"] < best["beta"] < high["beta"]
    least = f"never below {short(floor)} nats (β = {best['beta']:.2g})" if inside else "least at an end of the path"
    falls = bool((np.diff(rkl["forward_kl"]) > 0).all())
    return (
        f"Even with unlimited data RLHF's error is {least}: it is {_level(low)} and {_level(high)}. "
        f"RKL's error {'falls all the way as' if falls else 'does not fall all the way as'} β → 0, to {_level(first)}."
    )


def _level(point: pd.Series) -> str:
    return f"{short(point['forward_kl'])} nats at β = {point['beta']:g}"


FIGURE = Figure(
    name="dilemma",
    title="the dilemma of RLHF: its error along β, from collapse to underfitting, beside RKL's",
    source="unified §5",
    config=Config(),
    fast=Config(betas=(-3.0, 2.0, 41), sets=20),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(height=2.9),
)

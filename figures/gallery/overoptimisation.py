"""Over-optimisation: learned and true reward against KL(π‖π_ref), where the reward was learned from data that cover badly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.words import listed, short, written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor

    from theory.audit.overoptimisation import Path
    from theory.audit.subject import Subject
    from theory.instances import Instance
    from theory.instances.tabular import Array

# A true reward that loses no more than this share of its best has not turned.
FLAT = 0.1
FALLS = "peaks and falls"


@dataclass(frozen=True)
class Config:
    """What is followed; all on the same data sets.

    Attributes:
        methods: fitted to the data along what each tunes; the first is what the others are compared with.
        through_reward: fitted to the learned reward instead (see `through_reward`).
        coefficient: coverage coefficient C of the data policy.
        n: comparisons in a data set.
        sets: data sets.
        values: log₁₀ of the largest and the least value of what is tuned, and how many there are.
    """

    methods: tuple[str, ...] = ("rlhf", "dpo", "ipo", "rkl")
    through_reward: tuple[str, ...] = ("chipo",)
    coefficient: float = 100.0
    n: int = 1_000
    sets: int = 60
    values: tuple[float, float, int] = (1.5, -2.5, 29)


def data(config: Config) -> pd.DataFrame:
    """Rows of two kinds (``part``).

    ``fit``: one method, value and data set, with ``drift`` = KL(π‖π_ref), the advantages over π_ref in the true reward
    (``gold``) and in the learned one (``proxy``), all in nats. ``turn``: where the true reward is best (``best``, an
    index along the path, chosen on half of the data sets), what it loses from there to the end of the path
    (``loss``, on the other half), and by how much the best is above the first method's (``gain``), with 95 % intervals.
    """
    import pandas as pd

    from theory.audit.overoptimisation import turn

    found = trails(config)
    first = next(iter(found.values()))
    reference = first.gold[turn(first, first.gold).best]
    fits, turns = [], []
    for name, path in found.items():
        fits.append(pd.DataFrame(path.rows()).assign(part="fit", method=name, target=path.target))
        world = {"coverage": config.coefficient, "n": config.n, "target": path.target}
        turns.append({"part": "turn", "method": name, **world, **_turn(path, reference)})
    return pd.concat([*fits, pd.DataFrame(turns)], ignore_index=True)


def _turn(path: Path, reference: Array) -> dict[str, Any]:
    from theory.audit.overoptimisation import turn
    from theory.statistics.rates import mean

    found = turn(path, path.gold)
    told = {
        "loss": found.loss,
        "gain": mean((path.gold[found.best] - reference)[1::2]),
        "rise": mean((path.proxy[found.end] - path.proxy[found.best])[1::2]),
    }
    row = {"best": found.best, "value": float(path.values[found.best]) if path.values is not None else float("nan")}
    for name, interval in told.items():
        row |= {name: interval.value, f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
    return {**row, "drift": path.drift[found.best].mean(), "gold": path.gold[found.best].mean()}


def trails(config: Config) -> dict[str, Path]:
    """The path of every method."""
    import numpy as np

    from theory import objectives
    from theory.audit.overoptimisation import paths
    from theory.audit.subject import Subject

    values = np.logspace(*config.values).tolist()
    about = {"coefficient": config.coefficient, "n": config.n, "data_sets": config.sets, "values": values}
    found = {name: paths(Subject(objectives.get(name)), **about) for name in config.methods}
    rest = {name: through_reward(Subject(objectives.get(name)), **about) for name in config.through_reward}
    return {**found, **rest}


def through_reward(subject: Subject, *, coefficient: float, n: int, data_sets: int, values: Sequence[float]) -> Path:
    """The path of a method whose implicit reward is the learned one: its minimisers on a world that has that reward.

    For DPO this is what `paths` gives. χPO's implicit reward is not affine in log π, so that the small ridge of the
    fits would lie on its log-ratio, and at a small β decide the policy; here it lies on the reward, as for DPO.
    """
    import torch

    from theory import sampling
    from theory.audit.overoptimisation import measured
    from theory.audit.subject import repeated
    from theory.audit.tuning import SETTLED, table_task
    from theory.instances.mismatch import with_coverage
    from theory.solvers.selection import Search

    world, name = with_coverage(subject.instance, coefficient), subject.settings.searched
    assert name is not None
    data = sampling.draw(world, n, subject.seed, range(data_sets))
    learned = table_task(world, data, subject.settings).reward_fit.reward
    instance = believed(world, learned.numpy())
    search = Search(
        subject.objective, [table_task(instance, repeated(sampling.population(instance), len(values)), subject.settings)]
    )
    hyper: dict[str, float | Tensor] = {**subject.defaults, name: torch.tensor(values, dtype=torch.float64)}
    (fit,) = search.fit(search.full(hyper), search.references())
    assert float(fit.gradient_norm.max()) <= SETTLED
    return measured(world, values, fit.logp.reshape(-1, *learned.shape[1:]), learned.repeat(len(values), 1, 1))


def believed(world: Instance, learned: Array) -> Instance:
    """One world with every context of every data set, in which the learned rewards (S, X, V) are true."""
    import numpy as np

    from theory.instances import Instance
    from theory.instances.random import log_softmax

    target = np.exp(log_softmax(learned / world.gamma)).reshape(-1, world.vocab)
    reference = np.tile(world.reference, (len(learned), 1))
    return Instance(target, reference, np.full_like(target, 1 / world.vocab), gamma=world.gamma)


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Means with bands against the mean drift; where the true reward is best."""
    from figures import style

    learned, true = axes
    fits, turns = data[data["part"] == "fit"], data[data["part"] == "turn"]
    for panel, quantity, title in ((learned, "proxy", "learned reward"), (true, "gold", "true reward")):
        labels = []
        for rank, (name, rows) in enumerate(fits.groupby("method", sort=False)):
            at = rows.groupby("value", sort=False)
            x, y, error = at["drift"].mean(), at[quantity].mean(), at[quantity].sem()
            look = style.method(str(name), marker="", linewidth=max(0.8, 2.0 - 0.3 * rank), label=name)
            panel.plot(x, y, **look)
            style.band(panel, x, y - error, y + error, look["color"])
            labels.append((x.iloc[-1], y.iloc[-1], written(str(name)), look["color"]))
        panel.set(title=title, xlabel="KL(π‖π$_{ref}$) (nats)")
        style.label_ends(panel, labels)
    for _, row in turns.iterrows():
        look = style.method(str(row["method"]), linestyle="none", markersize=4, markeredgecolor="white", markeredgewidth=0.4)
        true.plot([row["drift"]], [row["gold"]], **look)
    true.axhline(turns["target"].iloc[0], color="black", linewidth=0.9, linestyle="--", zorder=1)
    at = {"xycoords": true.get_yaxis_transform(), "textcoords": "offset points", "ha": "right", "fontsize": style.SMALL}
    true.annotate("π* itself", (1, turns["target"].iloc[0]), (-2, 3), **at)
    learned.set_ylabel("reward over π$_{ref}$'s (nats)")
    style.note(true, "markers: best true reward\nbands: ± 1 standard error", (0.97, 0.04), ha="right")


def caption(data: pd.DataFrame) -> str:
    """Where the true reward turns, and what χPO changes."""
    turns = data[data["part"] == "turn"].set_index("method")
    world, falling = turns.iloc[0], turns[turns["loss_low"] > 0]
    rises = "still rises" if (falling["rise_low"] > 0).all() else "does not surely rise"
    courses: dict[str, list[str]] = {}
    for method, row in turns.iterrows():
        course = _course(row)
        courses.setdefault(f"{course} while the learned one {rises}" if course == FALLS else course, []).append(str(method))
    told = listed([f"{course} for {written(*methods)}" for course, methods in courses.items()])
    return (
        f"With a reward learned from {world['n']:,.0f} comparisons that cover badly (C = {world['coverage']:g}), true reward "
        f"{told}. {_gain('chipo', str(turns.index[0]), turns.loc['chipo'])}."
    )


def _course(row: pd.Series) -> str:
    """What a method's true reward does along its path."""
    if row["loss_high"] <= FLAT * row["gold"]:
        return "stays at its best"
    return FALLS if row["loss_low"] > 0 else "may fall"


def _gain(method: str, first: str, row: pd.Series) -> str:
    """A method's best true reward beside the first one's."""
    sure = row["gain_low"] > 0 or row["gain_high"] < 0
    beside = f"{short(abs(row['gain']))} nats {'above' if row['gain'] > 0 else 'below'}" if sure else "not surely away from"
    falls = f"but it too falls after, by {short(row['loss'])}" if row["loss_low"] > 0 else "and no fall after it is sure"
    return f"{written(method)}'s best, {short(row['gold'])}, is {beside} {written(first)}'s, {falls}"


FIGURE = Figure(
    name="overoptimisation",
    title="over-optimisation: true and learned reward against KL(π‖π_ref), with χPO",
    source="a question of the papers' reviewers; Gao et al. 2023, Huang et al. 2025",
    config=Config(),
    fast=Config(sets=16, values=(1.5, -2.5, 17)),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(columns=2, wide=True, height=2.5),
)

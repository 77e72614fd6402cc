"""Accuracy, oracle advantage and log-probabilities against the steps of real training runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from figures import figure
from figures.figure import Figure, Layout, Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

RESULTS = Results(
    "curves.parquet",
    "llm curves --methods sft,dpo,e-dpo,drdo,pmle --n 3e4 --seeds 3 --out runs/curves"
    " && cp runs/curves/curves.parquet figures/results/",
)
PANELS = {
    "accuracy": "accuracy on fresh comparisons",
    "oracle_advantage": "oracle advantage (nats)",
    "chosen_logp": "log-probability of chosen (nats)",
    "rejected_logp": "log-probability of rejected (nats)",
}
# Of a panel's height, left free above for the labels of lines that end near its top.
ROOM = 0.12


@dataclass(frozen=True)
class Config:
    """What is read.

    Attributes:
        results: the folder of the runs' table.
    """

    results: str = str(figure.RESULTS)


def data(config: Config) -> pd.DataFrame:
    """One row a panel, policy, data set and step; of policies that need no training, one row a panel.

    The oracle advantage is E_π[r*] − E_ref[r*], r* = γ log π*, nats.
    """
    from pathlib import Path

    import pandas as pd

    runs = pd.read_parquet(Path(config.results) / RESULTS.file)
    runs = runs[runs["temperature"] == 1]
    start = runs.loc[runs["policy"] == "reference", "oracle_reward"].iloc[0]
    runs = runs.assign(oracle_advantage=runs["oracle_reward"] - start)
    known = runs["policy"] != "trained"
    runs["policy"] = runs["policy"].where(known, runs["method"])
    kept = pd.concat([runs[~known], runs[known].drop_duplicates("policy")])
    kept["part"] = ["trained"] * int((~known).sum()) + ["known"] * (len(kept) - int((~known).sum()))
    return kept.melt(["part", "policy", "n", "seed", "step"], list(PANELS), "panel", "value").reset_index(drop=True)


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Means and ranges over data sets, and the target's value."""
    from figures import style

    for panel, (name, text) in zip(axes, PANELS.items(), strict=True):
        here = data[data["panel"] == name]
        last = here["step"].max()
        labels = []
        for method, rows in here[here["part"] == "trained"].groupby("policy", sort=False):
            look = style.method(str(method))
            at = rows.groupby("step")["value"]
            panel.plot(at.mean().index, at.mean(), color=look["color"], gid=f"{name} {method}")
            style.band(panel, at.mean().index, at.min(), at.max(), look["color"])
            labels.append((last, at.mean().iloc[-1], str(method), look["color"]))
        target = here.loc[here["policy"] == "target", "value"].iloc[0]
        style.limit(panel, [0, last], [target, target], "target")
        labels.append((last, target, "target π*", "black"))
        panel.set_xscale("symlog", linthresh=1, linscale=0.4)
        ticks = [tick for tick in (0, 1, 10, 100, 1000) if tick <= last]
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        low, high = panel.get_ylim()
        panel.set(xlabel="steps", ylabel=text, xlim=(0, last), ylim=(low, high + ROOM * (high - low)))
        style.label_ends(panel, labels)
    seeds = data.loc[data["part"] == "trained", "seed"].nunique()
    style.note(axes[0], f"bands: range over {seeds} data sets", at=(0.97, 0.06), ha="right")


def caption(data: pd.DataFrame) -> str:
    """Who ends with the most reward, and whether log-probabilities move as the drdo paper says."""
    trained = data[data["part"] == "trained"]
    ends = [trained[trained["step"] == trained.groupby("policy")["step"].transform(which)] for which in ("min", "max")]
    first, last = (end.pivot_table("value", "policy", "panel", sort=False) for end in ends)
    target = data[data["policy"] == "target"].set_index("panel")["value"]
    advantage, change = last["oracle_advantage"], last - first
    best, worst = advantage.idxmax(), advantage.idxmin()
    chosen, rejected = change["chosen_logp"], change["rejected_logp"]
    order = rejected.sort_values()
    return (
        f"After training on {data['n'].max():.0e} comparisons the true reward's advantage over the reference runs from "
        f"{advantage[worst]:+.2f} nats ({worst}) to {advantage[best]:+.2f} ({best}), {target['oracle_advantage']:+.2f} being the "
        f"target's own; {last['accuracy'].idxmax()} ranks {last['accuracy'].max():.1%} of fresh comparisons right, the target "
        f"{target['accuracy']:.1%}. "
        f"The log-probability of chosen responses changes by {chosen.min():+.2f} ({chosen.idxmin()}) to {chosen.max():+.2f} nats "
        f"({chosen.idxmax()}), that of rejected ones by {order.iloc[0]:+.2f} ({order.index[0]}) to {order.iloc[-1]:+.2f} "
        f"({order.index[-1]}){_as_the_paper(order)}."
    )


def _as_the_paper(rejected: pd.Series) -> str:
    """Whether drdo lowers rejected responses furthest, as the drdo paper says of its Fig. 4(d); changes in rising order."""
    if "drdo" not in rejected:
        return ""
    if rejected.index[0] == "drdo":
        return ", furthest under drdo as in the paper"
    own = "" if rejected.index[-1] == "drdo" else f"; drdo's change by {rejected['drdo']:+.2f}"
    return f"{own}, where the paper has drdo's fall furthest"


FIGURE = Figure(
    name="training-curves",
    title="accuracy, oracle advantage, chosen and rejected log-probabilities against steps of real training runs",
    source="drdo Fig. 4",
    config=Config(),
    fast=Config(),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(2, 2, wide=True, height=4.2),
    results=RESULTS,
)

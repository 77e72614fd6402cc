"""Accuracy, oracle advantage and log-probabilities against the steps of real training runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from figures.figure import Figure, FromResults, Layout, Results
from figures.words import power, written

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


def data(config: FromResults) -> pd.DataFrame:
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
    target = data[data["policy"] == "target"].set_index("panel")["value"]["oracle_advantage"]
    advantage = last["oracle_advantage"]
    best, worst = advantage.idxmax(), advantage.idxmin()
    order = (last - first)["rejected_logp"].sort_values()
    return (
        f"After {power(data['n'].max())} comparisons true reward over the reference's ranges from {advantage[worst]:+.2f} nats "
        f"({written(worst)}) to {advantage[best]:+.2f} ({written(best)}), with the target's at {target:+.2f}. Log-probabilities "
        f"of rejected responses {'fall furthest' if order.iloc[0] < 0 else 'rise least'} under {written(order.index[0])} "
        f"({order.iloc[0]:+.2f} nats){_as_the_paper(order)}."
    )


def _as_the_paper(rejected: pd.Series) -> str:
    """Whether drdo lowers rejected responses furthest, as the drdo paper says of its Fig. 4(d); changes in rising order."""
    if "drdo" not in rejected:
        return ""
    if rejected.index[0] == "drdo":
        return ", as in the paper"
    return f", where the paper has DRDO's fall furthest (here {rejected['drdo']:+.2f})"


FIGURE = Figure(
    name="training-curves",
    title="accuracy, oracle advantage, chosen and rejected log-probabilities against steps of real training runs",
    source="drdo Fig. 4",
    config=FromResults(),
    fast=FromResults(),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(2, 2, wide=True, height=4.2),
    results=RESULTS,
)

"""The oracle reward's advantage over supervised training and over references, at the end of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from figures.figure import Figure, FromResults, Layout
from figures.gallery.training_curves import RESULTS
from figures.words import short, written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BASELINE = "sft"
PANELS = {"sft": "over supervised training (sft)", "reference": "over the reference policy"}
LEVELS = {"target": "target π*", "winners": "winners of the data"}


def data(config: FromResults) -> pd.DataFrame:
    """One row a panel (over what), policy and temperature: mean advantage over data sets and its 95% t-interval, nats.

    That is the expected true reward E_π[r*], r* = γ log π*, of the policy at a temperature, less that of the same data
    set's supervised policy at the same temperature (``sft``), or of the reference that drew the responses
    (``reference``). Policies that need no training have one row each, at temperature 1.
    """
    from pathlib import Path

    import pandas as pd

    from theory.statistics.rates import mean

    runs = pd.read_parquet(Path(config.results) / RESULTS.file)
    known = runs[runs["policy"] != "trained"].drop_duplicates("policy").set_index("policy")
    last = runs[(runs["policy"] == "trained") & (runs["step"] == runs.groupby("method")["step"].transform("max"))]
    supervised = last[last["method"] == BASELINE].set_index(["seed", "temperature"])["oracle_reward"]
    over = {
        "sft": supervised.reindex(pd.MultiIndex.from_frame(last[["seed", "temperature"]])).to_numpy(),
        "reference": known["oracle_reward"]["reference"],
    }
    rows = []
    for panel, baseline in over.items():
        groups = last.assign(advantage=last["oracle_reward"] - baseline).groupby(["method", "temperature"], sort=False)
        for (method, temperature), group in groups:
            found = mean(group["advantage"].to_numpy())
            part = "baseline" if method == panel else "trained"
            spread = (found.value, found.low, found.high)
            rows.append((panel, part, method, temperature, *spread, group["forward_kl"].mean(), len(group)))
    for name, policy in known.iterrows():
        level = policy["oracle_reward"] - over["reference"]
        part = "baseline" if name == "reference" else "known"
        rows.append(("reference", part, name, 1.0, level, level, level, policy["forward_kl"], 0))
    columns = ["panel", "part", "policy", "temperature", "advantage", "low", "high", "forward_kl", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Means with intervals against the temperature; levels of policies that need no training."""
    import numpy as np

    from figures import style

    order = list(data.loc[data["part"] == "trained", "policy"].unique())
    for panel, (name, title) in zip(axes, PANELS.items(), strict=True):
        here = data[data["panel"] == name]
        ends = np.array([here["temperature"].min(), here["temperature"].max()])
        labels = [(ends[1], 0.0, name, style.GREY)]
        for method, rows in here[here["part"] == "trained"].groupby("policy", sort=False):
            rank = order.index(method)  # lines that coincide stay visible inside each other
            thin = {"linewidth": max(1.0, 2.0 - 0.4 * rank), "markersize": max(2.5, 4.5 - 0.8 * rank)}
            at, look = rows.sort_values("temperature"), style.method(str(method), **thin)
            panel.plot(at["temperature"], at["advantage"], label=method, **look)
            style.band(panel, at["temperature"], at["low"], at["high"], look["color"])
            labels.append((ends[1], at["advantage"].iloc[-1], str(method), look["color"]))
        panel.plot(ends, [0, 0], color=style.GREY, linewidth=0.8, zorder=0)
        for level in here[here["part"] == "known"].itertuples():
            style.limit(panel, ends, [level.advantage] * 2, str(level.policy))
            labels.append((ends[1], level.advantage, LEVELS[str(level.policy)], "black"))
        panel.set(title=title, xlabel="sampling temperature", xlim=(ends[0] - 0.02, ends[1] + 0.02))
        style.label_ends(panel, labels)
    axes[0].set_ylabel("oracle-reward advantage (nats)")
    style.note(axes[0], f"bands: 95% t-intervals, {data['seeds'].max()} data sets", at=(0.03, 0.93))


def caption(data: pd.DataFrame) -> str:
    """Who gains the most true reward, and whether that is the nearest to the target."""
    drawn = data[(data["temperature"] == 1) & (data["part"] == "trained")].set_index("policy")
    over = {panel: drawn[drawn["panel"] == panel] for panel in PANELS}
    advantage, distance = over["sft"]["advantage"].sort_values(ascending=False), over["sft"]["forward_kl"]
    best, nearest, most = advantage.index[0], distance.idxmin(), f"{advantage.iloc[0]:+.2f}"
    first = [str(method) for method, value in advantage.items() if f"{value:+.2f}" == most]
    target = data.loc[data["policy"] == "target", "advantage"].iloc[0]
    also = "is also" if best == nearest else "is"
    against = "" if best == nearest else f" against {short(distance[best])} for {written(best)}"
    return (
        f"{written(*first)} {'gain' if len(first) > 1 else 'gains'} the most true reward over supervised training, {most} nats "
        f"at temperature 1. Nearest to the target in forward KL {also} {written(nearest)} ({short(distance[nearest])} nats"
        f"{against}), and over the reference {written(best)} gains {over['reference']['advantage'][best]:+.2f} where the target "
        f"itself gains {target:+.2f}."
    )


FIGURE = Figure(
    name="oracle-advantage",
    title="oracle-reward advantage over supervised training and over the reference, on the known-target world",
    source="drdo Fig. 3",
    config=FromResults(),
    fast=FromResults(),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(columns=2, wide=True, height=2.6),
    results=RESULTS,
)

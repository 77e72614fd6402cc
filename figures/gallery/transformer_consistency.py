"""Forward KL of transformers against the number of comparisons, with the exact table's curve laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from figures.figure import Figure, FromResults, Layout, Results
from figures.sweeps import ZERO
from figures.words import listed, power, short, written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

RESULTS = Results(
    "consistency.parquet",
    "llm consistency --methods pmle,dpo,drdo --n 1e3:1e6:4 --seeds 3 --out runs/consistency"
    " && cp runs/consistency/results.parquet figures/results/consistency.parquet",
)
COLUMNS = ["method", "n", "seed", "forward_kl", "table_forward_kl", "forward_kl_before", "floor", "off_language_mass"]


def data(config: FromResults) -> pd.DataFrame:
    """One row a run: forward KL of the transformer and of the table on the same comparisons, nats; and its label."""
    import json
    from pathlib import Path

    import pandas as pd

    runs = pd.read_parquet(Path(config.results) / RESULTS.file)
    beta = [json.loads(hyper).get("beta") for hyper in runs["hyperparameters"]]
    label = [name if b is None else f"{name}, β = {b:g}" for name, b in zip(runs["method"], beta, strict=True)]
    return runs[COLUMNS].assign(label=label)


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Points for transformers, lines for the table, floors, and where training starts."""
    import numpy as np

    from figures import style

    (panel,) = axes
    labels = []
    for method, rows in data.groupby("method", sort=False):
        look = style.method(str(method))
        n = np.array(sorted(rows["n"].unique()), dtype=float)
        trained, table = (rows.groupby("n")[name] for name in ("forward_kl", "table_forward_kl"))
        ends = np.abs([trained.min() - trained.mean(), trained.max() - trained.mean()])
        panel.plot(n, table.mean(), color=look["color"], gid=f"table {method}")
        panel.errorbar(n, trained.mean(), yerr=ends, linestyle="none", capsize=2, elinewidth=0.8, **{**look, "markersize": 4})
        if rows["floor"].iloc[0] > ZERO:
            style.floor(panel, rows["floor"].iloc[0], look["color"])
        labels.append((trained.mean().iloc[-1], rows["label"].iloc[0], look["color"]))
    start = data["forward_kl_before"].iloc[0]
    panel.axhline(start, color=style.GREY, linewidth=0.8, linestyle="-.", zorder=0)
    panel.set(xscale="log", yscale="log", xlabel="comparisons n", ylabel="forward KL to the target (nats)")
    panel.annotate("reference (start)", (1, start), (-2, 2), xycoords=("axes fraction", "data"),
                   textcoords="offset points", ha="right", fontsize=style.SMALL, color=style.GREY)  # fmt: skip
    style.note(panel, "points: transformers,\nmean and range\nlines: exact table, same data\ndotted: its floor, $n = ∞$")
    style.label_ends(panel, [(panel.get_xlim()[1], *label) for label in labels])


def caption(data: pd.DataFrame) -> str:
    """Who reaches the target with transformers, and how near the others stop to their floors."""
    means = data.groupby(["method", "n"], sort=False)[["forward_kl", "floor"]].mean().reset_index()
    first, last = (means[means["n"] == n].set_index("method") for n in (means["n"].min(), means["n"].max()))
    begins, ends, floors = first["forward_kl"], last["forward_kl"], last["floor"]
    consistent, stopping = (list(floors.index[which]) for which in (floors <= ZERO, floors > ZERO))
    courses = [
        f"{written(m)} {'falls' if ends[m] < begins[m] else 'rises'} from {short(begins[m])} to {short(ends[m])} nats"
        for m in consistent
    ]
    courses += [f"{written(m)} ends at {short(ends[m])} nats" for m in stopping]
    gaps = [f"{abs(ends[m] / floors[m] - 1):.0%} from {written(m)}'s exact floor of {short(floors[m])}" for m in stopping]
    return (
        f"In the forward KL of transformers {listed(courses)} by n = {power(means['n'].max())}. "
        f"{f'That is {listed(gaps)} nats' if stopping else 'None of these methods has a floor'}."
    )


FIGURE = Figure(
    name="transformer-consistency",
    title="forward KL of transformers against n, with the exact table's curve laid over it",
    source="unified Theorem 4, on language models",
    config=FromResults(),
    fast=FromResults(),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(height=2.9),
    results=RESULTS,
)

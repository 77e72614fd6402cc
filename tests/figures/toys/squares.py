"""Squares, with a gap in the data."""

from dataclasses import dataclass

import pandas as pd

from figures.figure import Figure, Layout

# Configurations that were computed in this process.
COMPUTED: list["Config"] = []


@dataclass(frozen=True)
class Config:
    last: int = 5
    power: int = 2


def data(config: Config) -> pd.DataFrame:
    COMPUTED.append(config)
    x = range(1, config.last + 1)
    y = [float(value**config.power) for value in x]
    return pd.DataFrame({"method": ["dpo" if value % 2 else "rkl" for value in x], "x": x, "y": [float("nan"), *y[1:]]})


def draw(data, axes) -> None:
    from figures import style

    axes[0].plot(data["x"], data["y"], **style.method("dpo"))
    axes[1].plot(data["x"], data["x"], **style.method("rkl"))
    x, y = data[["x", "y"]].iloc[-1]
    style.label_ends(axes[0], [(x, y, "a square", "black"), (x, y, "another", "black")])
    for panel in axes:
        panel.set(xlabel="a label that\nleaves less room", ylabel="y")


def caption(data) -> str:
    return f"There are {len(data)} numbers ≥ 1. The <largest> square is {data['y'].max():g}."


FIGURE = Figure(
    name="squares",
    title="squares & more",
    source="nowhere Fig. 1",
    config=Config(),
    fast=Config(last=3),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(rows=2, wide=True, height=2.2),
)

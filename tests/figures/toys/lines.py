"""A straight line."""

from dataclasses import dataclass

import pandas as pd

from figures.figure import Figure


@dataclass(frozen=True)
class Config:
    slope: float = 2.0


def data(config: Config) -> pd.DataFrame:
    x = [0.0, 1.0, float("inf")]
    return pd.DataFrame({"x": x, "y": [config.slope * value for value in x]})


def draw(data, axes) -> None:
    axes[0].plot(data["x"][:2], data["y"][:2])


def caption(data) -> str:
    return f"It starts at {data['y'].iloc[0]:g}. It rises to {data['y'].iloc[1]:g}."


FIGURE = Figure("lines", "a line", "nowhere Fig. 2", Config(), Config(), data, draw, caption)

"""Reads a table of language-model runs."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from figures.figure import Figure, Results


@dataclass(frozen=True)
class Config:
    results: str = "nowhere"
    rows: int = 2


def data(config: Config) -> pd.DataFrame:
    return pd.read_parquet(Path(config.results) / "runs.parquet").head(config.rows)


def draw(data, axes) -> None:
    axes[0].plot(data["step"], data["loss"])


def caption(data) -> str:
    return f"There are {len(data)} steps. The last loss is {data['loss'].iloc[-1]:g}."


FIGURE = Figure(
    name="runs",
    title="runs",
    source="nowhere Fig. 3",
    config=Config(),
    fast=Config(),
    data=data,
    draw=draw,
    caption=caption,
    results=Results("runs.parquet", "llm consistency --out nowhere"),
)

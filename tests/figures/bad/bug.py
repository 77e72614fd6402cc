"""See the folder."""

from dataclasses import dataclass

from figures.figure import Figure


@dataclass(frozen=True)
class Config:
    slope: float = 2.0


def data(config: Config):
    1 / (config.slope - 2)


FIGURE = Figure("bug", "bug", "nowhere", Config(), Config(), data, lambda data, axes: None, lambda data: "")

"""See the folder."""

from dataclasses import dataclass

from figures.figure import Figure
from theory.errors import UserError


@dataclass(frozen=True)
class Config:
    slope: float = 2.0


def data(config: Config):
    raise UserError("--fast", None, "is not for this figure")


FIGURE = Figure("refuses", "refuses", "nowhere", Config(), Config(), data, lambda data, axes: None, lambda data: "")

"""See the folder."""

import time
from dataclasses import dataclass
from pathlib import Path

from figures.figure import Figure


@dataclass(frozen=True)
class Config:
    slope: float = 2.0


def data(config: Config):
    Path("waiting").touch()
    time.sleep(600)


FIGURE = Figure("waits", "waits", "nowhere", Config(), Config(), data, lambda data, axes: None, lambda data: "")

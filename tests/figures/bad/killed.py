"""See the folder."""

import os
import signal
from dataclasses import dataclass

from figures.figure import Figure


@dataclass(frozen=True)
class Config:
    slope: float = 2.0


def data(config: Config):
    os.kill(os.getpid(), signal.SIGKILL)


FIGURE = Figure("killed", "killed", "nowhere", Config(), Config(), data, lambda data, axes: None, lambda data: "")

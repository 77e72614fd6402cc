"""Data policies tilted away from the target until coverage reaches a wanted value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq

from theory.instances import Instance
from theory.instances.random import log_softmax
from theory.statistics.coverage import coverage_table

FURTHEST = 50.0


def tilted(instance: Instance, tilt: float) -> Instance:
    """The instance with μ ∝ π*^{1−tilt}: the target at 0, uniform at 1, its opposite at 2."""
    return replace(instance, data_policy=np.exp(log_softmax((1 - tilt) * np.log(instance.target))))


def at_coverage(instance: Instance, coverage: float) -> Instance:
    """The tilt at which the unrestricted table's C_Π is ``coverage`` ≥ 1; C = 1 is μ = π* itself."""
    if coverage == 1:
        return tilted(instance, 0)
    return tilted(instance, brentq(lambda t: np.log(coverage_table(tilted(instance, t)) / coverage), 0, FURTHEST, xtol=1e-12))

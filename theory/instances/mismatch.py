"""Instances whose data policy looks away from the target: the same world at a chosen coverage coefficient."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.optimize import brentq

from theory.errors import UserError
from theory.instances.random import log_softmax
from theory.instances.tabular import Instance
from theory.statistics.coverage import coverage_table

# Beyond this tilt a data policy of moderate size underflows.
LARGEST_TILT = 64.0


def tilted(instance: Instance, tilt: float) -> Instance:
    """The instance with data policy μ ∝ (π*)^{1−t}: the target itself at t = 0, uniform at t = 1, its inverse beyond."""
    data_policy = np.exp(log_softmax((1 - tilt) * np.log(instance.target)))
    return replace(instance, data_policy=data_policy, name=f"{instance.name}, μ ∝ π*^{1 - tilt:.3g}")


def with_coverage(instance: Instance, coefficient: float) -> Instance:
    """The instance with data policy μ ∝ (π*)^{1−t}, t ≥ 0 such that C of the unrestricted table is ``coefficient``.

    C = max_x sup_f E_{π*}[f̄²]/E_μ[f̄²], f̄ centred under μ (unified Definition 3); C = 1 is μ = π*.
    Target, reference, γ and context weights stay as they are. Source of the family: ours.

    Args:
        coefficient: C ≥ 1, reached to a relative 1e-9.

    Raises:
        UserError: C < 1, or no t up to 64 reaches C (a nearly uniform target).
    """
    if not (np.isfinite(coefficient) and coefficient >= 1):
        raise UserError("coverage", coefficient, "must be at least 1, its value where the data come from the target itself")
    if coefficient == 1:
        return tilted(instance, 0.0)
    low, high = 0.0, 1.0
    while _excess(high, instance, coefficient) < 0:
        low, high = high, 2 * high
        if high > LARGEST_TILT:
            raise UserError("coverage", coefficient, "is out of reach: the target is too close to uniform to look away from")
    return tilted(instance, brentq(_excess, low, high, args=(instance, coefficient), xtol=1e-13, rtol=1e-13))


def _excess(tilt: float, instance: Instance, coefficient: float) -> float:
    return math.log(coverage_table(tilted(instance, tilt)) / coefficient)

"""Rates: log-log slopes and means over seeds, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from theory.instances.tabular import Array


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided confidence interval."""

    value: float
    low: float
    high: float


def slope(n: Array, error: Array, *, confidence: float = 0.95) -> Interval:
    """The slope of log error against log n by least squares over all points.

    Args:
        n, error: positive, shape (points,); several seeds at one n are several points. With
            independent seeds the residual spread gives the interval.

    Returns:
        Slope and its Student-t interval; NaN where fewer than two distinct n are finite and
        positive.
    """
    usable = np.isfinite(error) & (error > 0) & np.isfinite(n)
    x, y = np.log(n[usable]), np.log(error[usable])
    if len(np.unique(x)) < 2:
        return Interval(np.nan, np.nan, np.nan)
    fit = stats.linregress(x, y)
    freedom = len(x) - 2
    half = stats.t.ppf((1 + confidence) / 2, freedom) * fit.stderr if freedom > 0 else np.inf
    return Interval(float(fit.slope), float(fit.slope - half), float(fit.slope + half))


def mean(values: Array, *, confidence: float = 0.95) -> Interval:
    """The mean over seeds with a Student-t interval."""
    usable = values[np.isfinite(values)]
    if len(usable) == 0:
        return Interval(np.nan, np.nan, np.nan)
    centre = float(usable.mean())
    if len(usable) == 1:
        return Interval(centre, np.nan, np.nan)
    half = stats.t.ppf((1 + confidence) / 2, len(usable) - 1) * usable.std(ddof=1) / np.sqrt(len(usable))
    return Interval(centre, centre - half, centre + half)


def proportion(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """A proportion with its Wilson interval."""
    found = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(successes / trials, float(found.low), float(found.high))

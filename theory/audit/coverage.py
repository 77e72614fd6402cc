"""Data that look away from the target: limits, asymptotic constants and errors as coverage worsens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.audit.subject import Subject
from theory.audit.tuning import SETTLED, Tuned, pooled, table_task, tuned
from theory.instances import Instance
from theory.instances.mismatch import with_coverage
from theory.instances.tabular import Array
from theory.sampling import draw
from theory.simulation import Settings, distance_to_target
from theory.solvers.newton import CERTIFIED
from theory.solvers.selection import Search
from theory.statistics.efficiency import asymptotic_constant
from theory.statistics.rates import Interval, mean
from theory.statistics.sandwich import variance_constant

COEFFICIENTS = (1.0, 10.0, 100.0, 1e3, 1e4)
# Comparisons in a simulated data set, and data sets at each coefficient.
N, DATA_SETS = 1_000_000, 16


@dataclass(frozen=True)
class Coverage:
    """Errors against the coverage coefficient C of the data policy; arrays of shape (K,), nats.

    Attributes:
        coefficients: C, ascending.
        floor: Σ_x ρ_x KL(π*‖π_∞), the hyperparameter tuned at each C.
        constant: c(C) with n·E[KL(π_∞‖π̂)] → c, by the delta method; NaN where there is none.
        efficient: c of an efficient estimator, the Cramér–Rao constant.
        errors: simulated Σ_x ρ_x KL(π*‖π̂) at n = `N`, shape (K, data sets).
        gradient_norm: what is left of the limits' gradients.
        value: of the tuned hyperparameter, or None.
    """

    coefficients: Array
    floor: Array
    constant: Array
    efficient: Array
    errors: Array
    gradient_norm: Array
    value: Array | None

    @property
    def settled(self) -> bool:
        """Whether every limit is a minimiser to the digits reported."""
        return bool(self.gradient_norm.max() <= SETTLED)

    @property
    def predicted(self) -> Array:
        """Floor + c/n, shape (K,): the error once n is large enough for the delta method (no bias term)."""
        return self.floor + self.constant / N

    @property
    def means(self) -> list[Interval]:
        """Mean simulated error at each C."""
        return [mean(row) for row in self.errors]

    @property
    def slope(self) -> Interval:
        """The log–log slope of the simulated error against C, data set by data set."""
        return mean(log_slope(self.coefficients, self.errors))


def log_slope(x: Array, y: Array) -> Array:
    """Least-squares slope of log y against log x, for every column of ``y`` (K, S); shape (S,)."""
    centred = np.log(x) - np.log(x).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(centred @ np.log(y.reshape(len(x), -1)) / (centred @ centred))


def coverage(subject: Subject, coefficients: Sequence[float] = COEFFICIENTS) -> Coverage:
    """Limits, constants and errors on the instance with its data policy tilted to each C.

    Raises:
        UserError: the target is too close to uniform for the largest C.
    """
    worlds = [with_coverage(subject.instance, c) for c in coefficients]
    limits = tuned(worlds, subject.settings)
    name = subject.settings.searched
    return Coverage(
        np.asarray(coefficients, dtype=float),
        limits.forward_kl,
        _constants(subject, limits),
        np.array([asymptotic_constant(w) for w in worlds]),
        _simulated(subject.settings, worlds, limits, subject.seed),
        limits.gradient_norm,
        None if name is None else limits.chosen.hyper[name].numpy(),
    )


def _constants(subject: Subject, limits: Tuned) -> Array:
    (fit,) = limits.chosen.fits
    try:
        found = variance_constant(limits.task, subject.objective, limits.chosen.hyper, fit)
    except NotImplementedError:
        return np.full(limits.task.seeds, np.nan)
    return np.where(limits.gradient_norm <= CERTIFIED, found, np.nan)


def _simulated(settings: Settings, worlds: Sequence[Instance], limits: Tuned, seed: int) -> Array:
    """Errors of independent data sets at each C, every fit started from its limit; shape (K, data sets)."""
    data = pooled([draw(world, N, seed, range(DATA_SETS)) for world in worlds])
    search = Search(settings.objective, [table_task(worlds[0], data, settings)])
    hyper = {name: value.repeat_interleave(DATA_SETS) for name, value in limits.chosen.hyper.items()}
    fits = search.fit(hyper, [limits.chosen.fits[0].logp.repeat_interleave(DATA_SETS, 0)], certify=False)
    return distance_to_target(worlds[0])(fits).numpy().reshape(len(worlds), DATA_SETS)

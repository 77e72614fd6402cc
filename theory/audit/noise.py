"""Flipped labels: what they do to a population minimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from theory.audit.subject import Limit, Subject
from theory.audit.tuning import SETTLED, table_task
from theory.instances.tabular import Array
from theory.sampling import WinCounts
from theory.simulation import distance_to_target
from theory.solvers.selection import Search
from theory.statistics import divergences
from theory.statistics.sandwich import sandwiches

RATES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4)


@dataclass(frozen=True)
class LabelNoise:
    """Population minimisers under flipped labels; arrays of shape (R,), one for each rate, nats.

    Attributes:
        rates: ε, ascending; the first is 0.
        to_target: Σ_x ρ_x KL(π*‖π_ε).
        shift: Σ_x ρ_x KL(π_0‖π_ε).
        curvature: q with KL(π_0‖π_ε) = q ε² + O(ε³), from the influence function; None where the
            minimiser is no smooth function of the data.
        gradient_norm: what is left of the gradient.
        finite: structure leaves a minimiser.
    """

    rates: Array
    to_target: Array
    shift: Array
    curvature: float | None
    gradient_norm: Array
    finite: np.ndarray

    @property
    def settled(self) -> bool:
        """Whether every fit is a minimiser to the digits reported."""
        return bool(self.gradient_norm.max() <= SETTLED)

    def at(self, rate: float) -> float:
        """KL(π_0‖π_ε) at one of the rates."""
        return float(self.shift[self.rates == rate][0])

    @property
    def quadratic(self) -> float:
        """q, or where it has no formula KL(π_0‖π_ε)/ε² at the smallest rate."""
        return float(self.shift[1] / self.rates[1] ** 2) if self.curvature is None else self.curvature

    def as_much_as(self, error: float) -> float | None:
        """The least ε with KL(π_0‖π_ε) = ``error`` nats, between the rates along a power law; None if there is none."""
        reached = np.flatnonzero(self.shift >= error)
        if not len(reached) or error <= 0:
            return None
        k = int(reached[0])
        if k <= 1:
            return float(self.rates[1] * np.sqrt(error / self.shift[1]))
        rates, shift = np.log(self.rates[k - 1 : k + 1]), np.log(self.shift[k - 1 : k + 1])
        return float(np.exp(np.interp(np.log(error), shift, rates)))


def flipped(data: WinCounts, rates: Sequence[float]) -> WinCounts:
    """One data set's win counts with each label turned with probability ε, in expectation: (1−ε)W + εWᵀ, one a rate."""
    epsilon, totals = np.asarray(rates)[:, None, None, None], np.repeat(data.totals, len(rates), 0)
    return WinCounts((1 - epsilon) * data.wins + epsilon * data.wins.swapaxes(-1, -2), totals, data.n)


def label_noise(subject: Subject, rates: Sequence[float] = RATES) -> LabelNoise:
    """The population minimiser at every noise rate, hyperparameters as they are best without noise.

    A label-free objective feels the noise through the reward that is learned from the same data.
    """
    limit = subject.limit
    task = table_task(limit.instance, flipped(limit.task.data, rates), subject.settings)
    chosen = Search(subject.objective, [task]).at({name: value[0] for name, value in limit.chosen.hyper.items()})
    (fit,) = chosen.fits
    weights = torch.from_numpy(limit.instance.context_weights)
    return LabelNoise(
        np.asarray(rates, dtype=float),
        distance_to_target(limit.instance)(chosen.fits).numpy(),
        divergences.forward_kl(fit.logp[:1], fit.logp, weights).numpy(),
        _curvature(limit) if limit.regular else None,
        fit.gradient_norm.numpy(),
        np.asarray(~task.vanishing(subject.objective, chosen.hyper).any((1, 2))),
    )


def derivative(limit: Limit) -> Array:
    """d log π_ε/dε at ε = 0, shape (X, V): Σ_jk (f_kj − f_jk)·influence_jk, f the labelled pairs' frequencies.

    Source: ours; the influence function of `statistics.sandwich` integrated over the flip.

    Raises:
        NotImplementedError: the minimiser is no smooth function of the data (see `sandwiches`).
    """
    found = sandwiches(limit.task, limit.settings.objective, limit.chosen.hyper, limit.fit)
    moves = [torch.einsum("pjk,pjkv->pv", s.frequencies.mT - s.frequencies, s.influence()) for s in found]
    return torch.cat(moves).numpy()


def _curvature(limit: Limit) -> float | None:
    """q = ½ Σ_x ρ_x Σ_y π_0(y|x) (d log π_ε(y|x)/dε)²."""
    try:
        moved = derivative(limit)
    except NotImplementedError:
        return None
    return float(limit.instance.context_weights @ (np.exp(limit.logp) * moved**2).sum(-1)) / 2

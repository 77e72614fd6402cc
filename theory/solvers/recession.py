"""Whether a loss falls without bound on given data: its slopes at infinity, weighed by who beat whom.

Send a set S of responses' log-probabilities to −∞ together at unit speed. In the long run a pair
changes the objective by its slope at infinity, which depends only on whether its winner, its loser
or both are in S. If the sum over the data is negative for some S there is no minimiser, on any
data: structure alone (`existence`) assumes losses that are bounded below.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from theory.solvers.existence import Mask, PairLoss

# All sets are tried up to this many responses; above it, the sets that rank responses by their own slope.
LARGEST_EXHAUSTIVE = 12
NEAR, FAR = 1e4, 1e6
# Contexts examined at once.
CHUNK = 256
# A sum of slopes closer to zero than this share of its terms is zero.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Slopes:
    """Change of the loss for each nat by which log-probabilities sink, at K settings; shape (K,) each.

    Attributes:
        winner: the winner's alone sinks.
        loser: the loser's alone sinks.
        both: both sink together.
    """

    winner: NDArray[np.float64]
    loser: NDArray[np.float64]
    both: NDArray[np.float64]

    def take(self, index: NDArray[np.intp]) -> Slopes:
        """The settings at ``index``."""
        return Slopes(*(part[index] for part in vars(self).values()))

    @property
    def falls(self) -> Mask:
        """Whether some pair alone could pay for a flight, shape (K,)."""
        return np.asarray((self.winner < 0) | (self.loser < 0) | (self.both < 0))


def slopes(loss: PairLoss, size: int) -> Slopes:
    """The slopes at infinity of ``loss(winner, loser)``, elementwise on (K,) log-probabilities in nats."""

    def along(winner: float, loser: float) -> NDArray[np.float64]:
        def at(scale: float) -> NDArray[np.float64]:
            both = (torch.full((size,), -1 - factor * scale, dtype=torch.float64) for factor in (winner, loser))
            return loss(*both).detach().expand(size).numpy()

        far = at(FAR)
        with np.errstate(invalid="ignore"):
            slope = (far - at(NEAR)) / (FAR - NEAR)
        # Past the largest float, the sign there is all there is to see.
        slope = np.where(np.isfinite(far), slope, np.where(far == -np.inf, -np.inf, np.inf))
        return np.where(np.abs(slope) < ROUNDING, 0.0, slope)

    return Slopes(along(1, 0), along(0, 1), along(1, 1))


def sinking(frequencies: NDArray[np.float64], slope: Slopes, barrier: NDArray[np.float64]) -> Mask:
    """The responses along which the objective falls fastest without bound, shape (B, V); none where it does not.

    Args:
        frequencies: W/n_x of B contexts, shape (B, V, V).
        slope: of the loss in each of them.
        barrier: what a unit of sinking costs besides, λ·π_ref(y) of KL(π_ref‖π), shape (B, V); the
            other functionals are bounded.
    """
    batch, vocab = frequencies.shape[:2]
    found = np.zeros((batch, vocab), dtype=bool)
    falling = np.flatnonzero(slope.falls)
    for start in range(0, len(falling), CHUNK):
        part = falling[start : start + CHUNK]
        sets = _sets(frequencies[part])
        inside, outside = sets.astype(float), (~sets).astype(float)
        flows = (
            (slope.winner, _flow(inside, frequencies[part], outside)),
            (slope.loser, _flow(outside, frequencies[part], inside)),
            (slope.both, _flow(inside, frequencies[part], inside)),
        )
        # 0·∞ is 0: a pair that was never seen counts for nothing; +∞ − ∞ is no fall.
        with np.errstate(invalid="ignore"):
            terms = [np.where(weight > 0, value[part, None] * weight, 0.0) for value, weight in flows]
            terms.append(np.einsum("bsv,bv->bs", inside, barrier[part]))
            total = np.nan_to_num(np.sum(terms, axis=0), nan=np.inf, posinf=np.inf, neginf=-np.inf)
        rows, least = np.arange(len(part)), total.argmin(1)
        lowest, size = total[rows, least], np.sum(np.abs(terms), axis=0)[rows, least]
        falls = np.isneginf(lowest) | (np.isfinite(size) & (lowest < -ROUNDING * size))
        found[part[falls]] = sets[rows[falls], least[falls]]
    return found


def _flow(winners: NDArray[np.float64], wins: NDArray[np.float64], losers: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often one of ``winners`` beat one of ``losers``, shape (B, sets)."""
    return np.asarray(((winners @ wins) * losers).sum(-1))


def _sets(wins: NDArray[np.float64]) -> Mask:
    """The sets to try, shape (B, sets, V): neither empty nor everything, since one response keeps its level."""
    batch, size = wins.shape[:2]
    if size <= LARGEST_EXHAUSTIVE:
        every = np.array(list(product([False, True], repeat=size))[1:-1])
        return np.broadcast_to(every, (batch, *every.shape))
    rank = (wins.sum(2) - wins.sum(1)).argsort(1).argsort(1)
    prefixes = rank[:, None, :] < np.arange(1, size)[:, None]
    return np.concatenate([prefixes, np.broadcast_to(np.eye(size, dtype=bool), (batch, size, size))], 1)

"""Preference data as sufficient statistics: the win counts W[x, i, j]."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from theory.errors import UserError
from theory.instances.tabular import Array, Instance, expit

# Above this vocabulary, or this many table cells, data are kept as a list of edges instead.
LARGEST_DENSE_VOCAB = 1_000
LARGEST_DENSE_CELLS = 40_000_000
# Counts are stored in float64, which is exact to 2^53 ≈ 9e15.
LARGEST_N = 10**15


@dataclass(frozen=True)
class WinCounts:
    """Win counts of one or many data sets on one table of responses.

    Attributes:
        wins: W, shape (seeds, X, V, V): how often row i was preferred to column j.
        totals: n_x, shape (seeds, X): comparisons in each context, draws y = y' included.
        n: comparisons in all; ``inf`` for the population, where wins and totals are probabilities.
    """

    wins: Array
    totals: Array
    n: float

    @property
    def weights(self) -> Array:
        """Each context's share of the data, shape (seeds, X)."""
        return self.totals / self.totals.sum(-1, keepdims=True)

    @property
    def frequencies(self) -> Array:
        """W/n_x, the empirical distribution of labelled pairs in each context; 0 where n_x = 0."""
        return self.wins / np.where(self.totals > 0, self.totals, 1.0)[..., None, None]

    def seeds(self, index: slice) -> WinCounts:
        """Some of the data sets."""
        return WinCounts(self.wins[index], self.totals[index], self.n)


def is_dense(vocab: int, contexts: int) -> bool:
    """Whether a table of pairs of this size is held in memory whole."""
    return vocab <= LARGEST_DENSE_VOCAB and contexts * vocab * vocab <= LARGEST_DENSE_CELLS


def population(instance: Instance) -> WinCounts:
    """The win counts at n = ∞, per comparison: ρ_x · 2 μ_i μ_j · P(i ≻ j)."""
    mu = instance.data_policy
    pairs = 2 * mu[:, :, None] * mu[:, None, :]
    pairs[:, np.arange(instance.vocab), np.arange(instance.vocab)] = 0
    wins = instance.context_weights[:, None, None] * pairs * instance.win_probability()
    return WinCounts(wins[None], instance.context_weights[None], math.inf)


def generator(seed: int, replicate: int, n: int) -> np.random.Generator:
    """The random stream of one data set: a function of (seed, replicate, n) and of nothing else.

    So a sweep gives the same numbers on any number of workers and with any other n in its grid.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, replicate, n)))


def draw(instance: Instance, n: int, seed: int, replicates: range = range(1)) -> WinCounts:
    """Draw data sets of n comparisons exactly, at a cost that does not depend on n.

    Context counts ~ multinomial(n, ρ); unordered pairs in a context ~ multinomial(n_x, μ⊗μ); wins
    ~ binomial. A draw y = y' carries no information and stays in n.

    Args:
        n: comparisons in each data set, 1 ≤ n ≤ 1e15.
        seed, replicates: data set k is a function of (seed, k, n) alone.

    Raises:
        UserError: n is out of range, or the table is too large to hold (use the sparse path).
    """
    if not 1 <= n <= LARGEST_N:
        raise UserError("--n", n, f"must be a whole number from 1 to {LARGEST_N:.0e}")
    if not is_dense(instance.vocab, instance.contexts):
        raise UserError("--vocab", instance.vocab, "is too large for a table of pairs; use sampling.edges")
    low, high = np.triu_indices(instance.vocab)
    mu = instance.data_policy
    pairs = mu[:, low] * mu[:, high] * np.where(low == high, 1.0, 2.0)
    pairs /= pairs.sum(1, keepdims=True)
    reward = instance.reward()
    win = expit(reward[:, low] - reward[:, high])
    shape = (len(replicates), instance.contexts, instance.vocab, instance.vocab)
    wins, totals = np.zeros(shape), np.zeros(shape[:2])
    different = low != high
    for row, replicate in enumerate(replicates):
        rng = generator(seed, replicate, n)
        context_counts = rng.multinomial(n, instance.context_weights / instance.context_weights.sum())
        counts = rng.multinomial(context_counts, pairs)
        won = rng.binomial(counts, win)
        totals[row] = context_counts
        wins[row][:, low[different], high[different]] = won[:, different]
        wins[row][:, high[different], low[different]] = (counts - won)[:, different]
    return WinCounts(wins, totals, float(n))


def bootstrap(data: WinCounts, rng: np.random.Generator) -> WinCounts:
    """Resample every data set's comparisons with replacement, within contexts; exact in law.

    The population is its own resample. A data set's resample is a function of that data set and
    of ``rng`` alone, not of the others beside it.
    """
    if math.isinf(data.n):
        return data
    wins = [_resampled(one, stream) for one, stream in _streams(data, rng)]
    return WinCounts(np.concatenate(wins), data.totals, data.n)


def _resampled(data: WinCounts, rng: np.random.Generator) -> Array:
    totals = data.totals.astype(np.int64)
    cells = data.wins.reshape(*data.totals.shape, -1)
    ties = data.totals - cells.sum(-1)
    p = np.concatenate([cells, ties[..., None]], -1) / np.maximum(totals, 1)[..., None]
    p[totals == 0, -1] = 1.0
    resampled = rng.multinomial(totals, p / p.sum(-1, keepdims=True))[..., :-1]
    return resampled.reshape(data.wins.shape).astype(np.float64)


def split(data: WinCounts, held_out: float, rng: np.random.Generator) -> tuple[WinCounts, WinCounts]:
    """Divide the comparisons into a training and a held-out part, each comparison independently.

    A data set's division is a function of that data set and of ``rng`` alone, as in `bootstrap`.

    Args:
        held_out: expected share of the held-out part.

    Raises:
        UserError: the population has nothing to hold out.
    """
    if math.isinf(data.n):
        raise UserError("--beta", "validation", "needs a finite n: the population has no held-out part")
    parts = [_held_out(one, held_out, stream) for one, stream in _streams(data, rng)]
    wins, totals = (np.concatenate(part) for part in zip(*parts, strict=True))
    rest = WinCounts(data.wins - wins, data.totals - totals, data.n * (1 - held_out))
    return rest, WinCounts(wins, totals, data.n * held_out)


def _held_out(data: WinCounts, share: float, rng: np.random.Generator) -> tuple[Array, Array]:
    wins = rng.binomial(data.wins.astype(np.int64), share).astype(np.float64)
    ties = rng.binomial((data.totals - data.wins.sum((-1, -2))).astype(np.int64), share)
    return wins, wins.sum((-1, -2)) + ties


def _streams(data: WinCounts, rng: np.random.Generator) -> Iterator[tuple[WinCounts, np.random.Generator]]:
    """Each data set with a random stream that its own numbers and ``rng`` decide."""
    root = int(rng.integers(2**63))
    for k, wins in enumerate(data.wins):
        yield data.seeds(slice(k, k + 1)), np.random.default_rng([root, zlib.crc32(wins.tobytes())])

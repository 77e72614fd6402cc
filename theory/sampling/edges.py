"""Preference data as a list of labelled pairs, for vocabularies too large for a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from theory.errors import UserError
from theory.instances.tabular import Array, Instance, expit
from theory.sampling.counts import generator

LARGEST_EDGE_N = 10**8


@dataclass(frozen=True)
class Edges:
    """Distinct labelled pairs and how often each was seen; one data set.

    Attributes:
        context, chosen, rejected: integer arrays, shape (E,).
        count: times that chosen beat rejected in that context, shape (E,).
        totals: n_x, shape (X,), draws y = y' included.
        vocab: V.
        n: comparisons in all.
    """

    context: NDArray[np.int64]
    chosen: NDArray[np.int64]
    rejected: NDArray[np.int64]
    count: NDArray[np.float64]
    totals: Array
    vocab: int
    n: float

    @property
    def contexts(self) -> int:
        """X."""
        return len(self.totals)


def draw_edges(instance: Instance, n: int, seed: int, replicate: int = 0) -> Edges:
    """Draw n comparisons one by one and keep the distinct ones; cost O(n + X·V).

    Raises:
        UserError: n below 1, or above 1e8 (a table's cost is independent of n, a list's is not).
    """
    if n < 1:
        raise UserError("--n", n, "must be at least 1")
    if n > LARGEST_EDGE_N:
        raise UserError("--n", f"{n:g}", f"must be at most {LARGEST_EDGE_N:g} when V = {instance.vocab} needs the sparse path")
    rng = generator(seed, replicate, n)
    totals = rng.multinomial(n, instance.context_weights / instance.context_weights.sum())
    keys, counts = [], []
    for x, size in enumerate(totals):
        cumulative = np.cumsum(instance.data_policy[x])
        cumulative /= cumulative[-1]
        first, second = (np.searchsorted(cumulative, rng.random(size), side="right") for _ in range(2))
        logp = np.log(instance.target[x])
        won = rng.random(size) < expit(instance.gamma * (logp[first] - logp[second]))
        chosen, rejected = np.where(won, first, second), np.where(won, second, first)
        different = chosen != rejected
        key, times = np.unique(chosen[different] * instance.vocab + rejected[different], return_counts=True)
        keys.append(key + x * instance.vocab**2)
        counts.append(times)
    key = np.concatenate(keys).astype(np.int64)
    context, pair = np.divmod(key, instance.vocab**2)
    chosen, rejected = np.divmod(pair, instance.vocab)
    count: Array = np.concatenate(counts).astype(np.float64)
    return Edges(context, chosen, rejected, count, totals.astype(np.float64), instance.vocab, float(n))


def split_edges(data: Edges, held_out: float, rng: np.random.Generator) -> tuple[Edges, Edges]:
    """Divide the comparisons into a training and a held-out part, each comparison independently."""
    count = rng.binomial(data.count.astype(np.int64), held_out).astype(np.float64)
    ties = data.totals - np.bincount(data.context, data.count, minlength=data.contexts)
    totals = np.bincount(data.context, count, minlength=data.contexts) + rng.binomial(ties.astype(np.int64), held_out)
    rest = replace(data, count=data.count - count, totals=data.totals - totals, n=data.n * (1 - held_out))
    return rest, replace(data, count=count, totals=totals.astype(np.float64), n=data.n * held_out)

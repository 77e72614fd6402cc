"""Whether a finite minimiser exists, by structure: the loss's tails and the directed win graph.

A response whose probability goes to 0 leaves along a direction in which the loss never pays. Which
pairs forbid a direction depends on the objective only through its tails, which are read off the
loss itself; which directions are left depends on the data only through who beat whom.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Mask = NDArray[np.bool_]
PairLoss = Callable[[Tensor, Tensor], Tensor]
FAR, FARTHER = 1e8, 1e12
# Between these a derivative that is suddenly 0 was lost to the rounding of float64.
ROUNDING = 1e-19, 1e-13


@dataclass(frozen=True)
class Tails:
    """How a pair loss behaves as log-probabilities go to −∞, at K settings; arrays of shape (K,).

    Attributes:
        level: it grows without bound when winner and loser sink together.
        chain: it grows when both sink, the loser faster.
        inverted: it grows when the winner sinks below the loser.
        separated: it grows when the loser alone sinks, or stops falling at a finite margin.
        exponent: κ with |∂ℓ| ~ e^{−κ·margin} as the loser sinks; inf if it is not felt at all.
    """

    level: Mask
    chain: Mask
    inverted: Mask
    separated: Mask
    exponent: NDArray[np.float64]

    def take(self, index: NDArray[np.intp]) -> Tails:
        """The settings at ``index``."""
        return Tails(*(part[index] for part in vars(self).values()))


def tails(loss: PairLoss, size: int) -> Tails:
    """Read the tails off ``loss(winner, loser)``, elementwise on (K,) log-probabilities in nats."""

    def at(scale: float, winner: float, loser: float) -> NDArray[np.float64]:
        both = (torch.full((size,), -1 - factor * scale, dtype=torch.float64) for factor in (winner, loser))
        return loss(*both).detach().expand(size).numpy()

    def grows(winner: float, loser: float) -> Mask:
        near, far = (at(scale, winner, loser) for scale in (FAR, FARTHER))
        return np.isnan(far) | np.isposinf(far) | (far > near + 1.0)

    exponent, stops = _exponent(loss, size)
    return Tails(grows(1, 1), grows(1, 2), grows(1, 0), grows(0, 1) | stops, exponent)


def _exponent(loss: PairLoss, size: int) -> tuple[NDArray[np.float64], Mask]:
    """κ of the decay as the loser sinks, and where the loss stops changing at a finite margin."""

    def pull(t: NDArray[np.float64]) -> NDArray[np.float64]:
        loser = torch.from_numpy(-1.0 - t).requires_grad_()
        value = loss(torch.full((size,), -1.0, dtype=torch.float64), loser)
        if not value.requires_grad:
            return np.zeros(size)
        return torch.autograd.grad(value.sum(), loser)[0].abs().numpy()

    unread = (pull(np.ones(size)) == 0) & (pull(np.full(size, 0.1)) == 0)
    first, second = (_crossing(pull, level, size) for level in (1e-50, 1e-100))
    faded = np.isfinite(second)
    gap = np.where(faded, second, 1.0) - np.where(faded, first, 0.0)
    stops = ~unread & faded & (gap <= 1e-9 * second)
    with np.errstate(divide="ignore"):
        exponent = np.where(faded, math.log(1e50) / gap, 0.0)
    # A derivative such as σ(1 − σ) has no digits below the rounding of 1: it fades, and is 0 by rounding alone.
    edge = pull(np.where(faded, 0.999 * second, 1.0))
    rounded = stops & (edge > ROUNDING[0]) & (edge < ROUNDING[1])
    if rounded.any():
        early, late = (_crossing(pull, level, size) for level in (1e-5, 1e-10))
        exponent, stops = np.where(rounded, math.log(1e5) / (late - early), exponent), stops & ~rounded
    # A loser that is not read is felt through the normaliser alone.
    return np.where(unread | stops, math.inf, exponent), stops


def _crossing(pull: Callable[[NDArray[np.float64]], NDArray[np.float64]], level: float, size: int) -> NDArray[np.float64]:
    """The margin at which the pull falls below ``level``; inf if it has not by `FARTHER`."""
    low, high = np.zeros(size), np.ones(size)
    while (above := (pull(high) > level) & (high < FARTHER)).any():
        low, high = np.where(above, high, low), np.where(above, 2 * high, high)
    never = pull(high) > level
    for _ in range(50):
        middle = (low + high) / 2
        above = pull(middle) > level
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(never, math.inf, high)


@dataclass(frozen=True)
class WinGraph:
    """Who beat whom in B contexts of V responses; node b·V + i is response i of context b.

    Attributes:
        batch, vocab: B and V.
        winner, loser: node numbers of the edges.
    """

    batch: int
    vocab: int
    winner: NDArray[np.int64]
    loser: NDArray[np.int64]

    @classmethod
    def of_table(cls, wins: NDArray[np.float64]) -> WinGraph:
        """The graph of win counts of shape (B, V, V)."""
        batch, vocab = wins.shape[:2]
        b, i, j = np.nonzero(wins)
        return cls(batch, vocab, b * vocab + i, b * vocab + j)

    @cached_property
    def components(self) -> NDArray[np.int64]:
        """Strongly connected components of all contexts at once; labels of shape (B·V,)."""
        size = self.batch * self.vocab
        edges = np.ones(len(self.winner), dtype=np.int8), (self.winner, self.loser)
        labels = connected_components(coo_matrix(edges, shape=(size, size)), directed=True, connection="strong")[1]
        return labels.astype(np.int64)

    @property
    def strongly_connected(self) -> bool:
        """Whether every context is one component, so that no direction is free for any loss."""
        labels = self.components.reshape(self.batch, self.vocab)
        return bool((labels == labels[:, :1]).all())

    def _marked(self, nodes: NDArray[np.int64]) -> Mask:
        marks = np.zeros(self.batch * self.vocab, dtype=bool)
        marks[nodes] = True
        return marks

    def _table(self, marks: Mask) -> Mask:
        return marks.reshape(self.batch, self.vocab)

    @property
    def won(self) -> Mask:
        """Responses that won a comparison, shape (B, V)."""
        return self._table(self._marked(self.winner))

    @property
    def lost(self) -> Mask:
        """Responses that lost a comparison, shape (B, V)."""
        return self._table(self._marked(self.loser))

    @cached_property
    def drained(self) -> Mask:
        """Responses whose component is beaten from outside it (Ford 1957), shape (B, V).

        A Bradley–Terry fit is finite exactly when nothing is drained; mass leaves along the order
        of the condensation, from every component that another one beats.
        """
        labels = self.components
        across = labels[self.winner] != labels[self.loser]
        beaten = np.zeros(labels.max() + 1, dtype=bool)
        beaten[labels[self.loser[across]]] = True
        return self._table(beaten[labels])

    @property
    def kept(self) -> Mask:
        """Responses from which a chain of wins reaches a cycle; where there is no cycle, the unbeaten ones."""
        kept = np.bincount(self.components)[self.components] > 1
        grown = -1
        while kept.sum() != grown:
            grown = kept.sum()
            kept[self.winner[kept[self.loser]]] = True
        table = self._table(kept)
        return np.where(table.any(1, keepdims=True), table, self.won & ~self.lost)


def vanishing(graph: WinGraph, shape: Tails, *, entropic: Mask, forward: Mask) -> Mask:
    """Responses whose probability the minimising sequence sends to 0, shape (B, V).

    Args:
        graph: who beat whom.
        shape: the loss's tails in each of the B problems.
        entropic: where an entropy or KL(π‖π_ref) term is present, shape (B,). Its pull at
            probability ε is of order ε·log(1/ε), the loss's ε^κ: it stops the drain when κ ≥ 1.
        forward: where a KL(π_ref‖π) term is present. Its pull is constant: it stops any drain
            whose pull fades (κ > 0).
    """
    compared = graph.won | graph.lost
    some = compared.any(1, keepdims=True)
    unseen = ~compared & some
    levels = np.where(_column(shape.chain), ~graph.won & some, unseen | (compared & ~graph.kept))
    levels = np.where(_column(shape.separated), unseen, levels)
    found = np.where(_column(shape.level), levels, graph.drained & ~_column(shape.separated))
    return found & ~_column(stopped(shape, entropic=entropic, forward=forward))


def stopped(shape: Tails, *, entropic: Mask, forward: Mask) -> Mask:
    """Where a barrier, or a loss that is bounded when inverted, stops every drain; see `vanishing`."""
    return (entropic & ~competing(shape)) | (forward & (shape.exponent > 0)) | ~shape.inverted


def competing(shape: Tails) -> Mask:
    """Where a drain with κ < 1 outpulls an entropic barrier close to the boundary, shape (K,).

    The boundary then attracts, but whether the infimum lies there or at a minimum in the interior
    depends on the weights, so structure alone does not decide existence.
    """
    return shape.exponent <= 1 - 1e-9


def _column(flags: Mask) -> Mask:
    return np.asarray(flags)[:, None]

"""A table whose contexts repeat: each kind of context is solved once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theory.objectives import Objective
from theory.sampling import WinCounts, bootstrap, split
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask
from theory.solvers.task import Fit, World


class DistinctTask(TableTask):
    """A `TableTask` of one data set and an unrestricted table that solves equal contexts once.

    Preference data for language models have tens of thousands of prompts with a comparison or two
    each, among which only a few win tables differ.

    Attributes:
        inner: the task on one context of each kind, weighted by how often the kind occurs.
        first: a context of each kind, shape (U,).
        kind: the kind of each context, shape (X,).
    """

    def __init__(self, data: WinCounts, world: World, options: Options):
        super().__init__(data, world, options)
        self.first, self.kind = _kinds(data, world)
        few = WinCounts(data.wins[:, self.first], data.totals[:, self.first], data.n)
        self.inner = TableTask(few, World(world.log_ref[self.first], world.gamma), options)
        self.inner.weights = torch.from_numpy(np.bincount(self.kind, data.weights[0]))[None]

    def resampled(self, rng: np.random.Generator) -> DistinctTask:
        return DistinctTask(bootstrap(self.data, rng), self.world, self.options)

    def divided(self, held_out: float, rng: np.random.Generator) -> tuple[DistinctTask, DistinctTask]:
        train, rest = split(self.data, held_out, rng)
        return DistinctTask(train, self.world, self.options), DistinctTask(rest, self.world, self.options)

    def iterate(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, start: Tensor) -> Fit:
        if not self._repeats(reward):
            return super().iterate(objective, hyper, reward, start)
        return self.expanded(self.inner.iterate(objective, hyper, self._pick(reward), start[:, self.first]))

    def certify(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, logp: Tensor) -> Fit:
        if not self._repeats(reward):
            return super().certify(objective, hyper, reward, logp)
        return self.expanded(self.inner.certify(objective, hyper, self._pick(reward), logp[:, self.first]))

    def reduced(self, fit: Fit) -> Fit:
        """A fit of this task as one of `inner`."""
        return Fit(fit.logp[:, self.first], self._pick(fit.student), fit.value, fit.gradient_norm, fit.iterations)

    def expanded(self, fit: Fit) -> Fit:
        """A fit of `inner` as one of this task."""
        student = None if fit.student is None else fit.student[:, self.kind]
        return Fit(fit.logp[:, self.kind], student, fit.value, fit.gradient_norm, fit.iterations)

    def _pick(self, table: Tensor | None) -> Tensor | None:
        return None if table is None else table[:, self.first]

    def _repeats(self, reward: Tensor | None) -> bool:
        """Whether contexts of a kind have the same reward; an ensemble's bootstrap rewards differ."""
        return reward is None or torch.equal(reward, reward[:, self.first][:, self.kind])


def _kinds(data: WinCounts, world: World) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A context of each kind, and each context's kind; two of a kind agree to the last bit."""
    parts = (data.wins[0].reshape(len(world.log_ref), -1), data.totals[0][:, None], world.log_ref.numpy())
    rows = np.concatenate(parts, 1)
    keys = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    return first, kind

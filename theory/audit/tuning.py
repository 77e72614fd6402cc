"""Populations fitted in one batch, and the best value of the tuned hyperparameter on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from theory.instances import Instance
from theory.instances.tabular import Array
from theory.sampling import WinCounts, population
from theory.simulation import Settings, distance_to_target, make_task
from theory.solvers.selection import GRID_LOW, Chosen, Search, grid
from theory.solvers.tabletask import TableTask

# Of the values that `selection.grid` holds, every so many are tried at first.
STRIDE = 5
# Then so many values between the neighbours of the best one, so many times.
BETWEEN, ROUNDS = 9, 5
# What is left of a forward KL of zero then, in nats: the best value is found to about 0.1%.
RESOLUTION = 1e-7
# A gradient above this leaves the digits that are reported in doubt: a kink, or a flight.
SETTLED = 1e-5


def pooled(data: Sequence[WinCounts]) -> WinCounts:
    """Data sets of the same n side by side."""
    return WinCounts(np.concatenate([d.wins for d in data]), np.concatenate([d.totals for d in data]), data[0].n)


def table_task(instance: Instance, data: WinCounts, settings: Settings) -> TableTask:
    """`make_task` on a table of pairs."""
    task = make_task(instance, data, settings)
    assert isinstance(task, TableTask)
    return task


@dataclass(frozen=True)
class Tuned:
    """The population minimisers of B instances that differ in their data alone.

    Attributes:
        task: the B populations as data sets.
        chosen: the fits, their hyperparameters and certificate.
        forward_kl: Σ_x ρ_x KL(π*‖π_∞), nats, shape (B,).
    """

    task: TableTask
    chosen: Chosen
    forward_kl: Array

    @property
    def gradient_norm(self) -> Array:
        """What is left of the gradient, shape (B,)."""
        return self.chosen.fits[0].gradient_norm.numpy()


def tuned(instances: Sequence[Instance], settings: Settings) -> Tuned:
    """The population minimisers at the value of the tuned hyperparameter with the least forward KL.

    What `selection.Search.choose` does for finite data, all values of one round as one batch
    instead of a path: a population is small enough, and every value starts from the reference.

    Args:
        instances: with one target, reference, γ and class; their data policies may differ.
    """
    data, objective = pooled([population(i) for i in instances]), settings.objective
    task = table_task(instances[0], data, settings)
    values: dict[str, float | torch.Tensor] = {**objective.resolve(settings.values)}
    if settings.searched is not None:
        values[settings.searched] = torch.from_numpy(_best_values(instances[0], data, settings))
    chosen = Search(objective, [task]).at(values)
    return Tuned(task, chosen, distance_to_target(instances[0])(chosen.fits).numpy())


def _best_values(instance: Instance, data: WinCounts, settings: Settings) -> Array:
    """The best value for each data set, shape (B,): a coarse grid, then finer ones around the best."""
    assert settings.objective.tuned is not None
    whole, sets = np.array(grid(settings.objective.tuned)), np.arange(len(data.wins))
    coarse = np.unique(np.append(whole[::STRIDE], whole[-1]))[::-1]
    tried = np.repeat(coarse[:, None], len(sets), 1)
    best, least = tried[0], np.full(len(sets), np.inf)
    for finer in range(1 + ROUNDS):
        score = _scores(instance, data, settings, tried)
        k = score.argmin(0)
        better = score[k, sets] < least
        best, least = np.where(better, tried[k, sets], best), np.where(better, score[k, sets], least)
        if finer and np.isin(best, whole[[0, -1]]).all():
            break  # at an end of the whole grid, with nothing better beside it
        high, low = tried[np.maximum(k - 1, 0), sets], tried[np.minimum(k + 1, len(tried) - 1), sets]
        tried = np.geomspace(np.maximum(high, GRID_LOW), np.maximum(low, GRID_LOW), BETWEEN)
        tried = np.clip(tried, whole[-1], whole[0])
    return best


def _scores(instance: Instance, data: WinCounts, settings: Settings, tried: Array) -> Array:
    """Forward KL of every value (rows) on every data set (columns), shape (K, B)."""
    assert settings.searched is not None
    task = table_task(instance, pooled([data] * len(tried)), settings)
    search = Search(settings.objective, [task])
    values: dict[str, float | torch.Tensor] = {**settings.objective.resolve(settings.values)}
    values[settings.searched] = torch.from_numpy(tried.ravel())
    fits = search.fit(search.full(values), search.references(), certify=False)
    score = distance_to_target(instance)(fits).numpy().reshape(tried.shape)
    return np.where(np.isnan(score), np.inf, score)

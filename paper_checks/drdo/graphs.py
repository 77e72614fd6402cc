"""Every way in which four responses can be compared, and which of them an objective drains."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray

from theory.objectives import Objective
from theory.sampling import WinCounts
from theory.solvers.existence import Mask
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World

VOCAB = 4


def all_graphs() -> Mask:
    """Who beat whom, shape (4096, V, V): each of the six pairs not compared, won one way, the other, or both."""
    states = np.array(list(itertools.product(range(4), repeat=math.comb(VOCAB, 2))))
    wins = np.zeros((len(states), VOCAB, VOCAB), dtype=bool)
    for state, (i, j) in zip(states.T, itertools.combinations(range(VOCAB), 2), strict=True):
        wins[:, i, j], wins[:, j, i] = state & 1, state >> 1
    return wins


def drained(objective: Objective, wins: Mask, **values: float) -> Mask:
    """Responses whose probability goes to 0 without a ridge, shape (graphs, V), decided by structure."""
    graphs, vocab = wins.shape[:2]
    counts = wins[:, None].astype(np.float64)
    data = WinCounts(counts, np.full((graphs, 1), float(math.comb(vocab, 2))), float(math.comb(vocab, 2)))
    log_ref = torch.full((1, vocab), -math.log(vocab), dtype=torch.float64)
    task = TableTask(data, World(log_ref, 1.0), Options(ridge=0.0))
    hyper = {k: torch.full((graphs,), v, dtype=torch.float64) for k, v in objective.resolve(values).items()}
    return np.asarray(task.vanishing(objective, hyper)[:, 0])


def reachable(wins: Mask) -> Mask:
    """Whether a chain of one or more wins leads from i to j, shape (graphs, V, V)."""
    reach: Mask = wins.copy()
    for k in range(wins.shape[-1]):
        reach |= reach[:, :, k, None] & reach[:, None, k, :]
    return reach


def has_unbeaten_cycle(wins: Mask) -> NDArray[np.bool_]:
    """Whether some response is on a cycle of wins that no response outside the cycle beats, shape (graphs,)."""
    reach = reachable(wins)
    cyclic = np.diagonal(reach, axis1=1, axis2=2)
    answered = (~reach.swapaxes(1, 2) | reach).all(2)
    return np.asarray((cyclic & answered).any(1))


def leads_to_cycle(wins: Mask) -> NDArray[np.bool_]:
    """Whether from every response a chain of wins, of any length, leads to a cycle of wins, shape (graphs,)."""
    reach = reachable(wins)
    cyclic = np.diagonal(reach, axis1=1, axis2=2)
    return np.asarray((cyclic | (reach & cyclic[:, None, :]).any(2)).all(1))


def kinds(wins: Mask) -> dict[str, NDArray[np.bool_]]:
    """Masks of the graphs: disjoint pairs labelled one way, overlapping ones without and with a cycle, and the rest."""
    both = (wins & wins.swapaxes(1, 2)).any((1, 2))
    degree = (wins | wins.swapaxes(1, 2)).sum(2)
    disjoint = (degree <= 1).all(1)
    cyclic = np.diagonal(reachable(wins), axis1=1, axis2=2).any(1)
    return {
        "one way, disjoint": ~both & disjoint,
        "one way, overlapping, no cycle": ~both & ~disjoint & ~cyclic,
        "one way, overlapping, with a cycle": ~both & cyclic,
        "some pair labelled both ways": both,
    }

"""Data sets written down by hand: who beat whom, in one context."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from theory.instances.tabular import Array
from theory.objectives import Objective
from theory.sampling import WinCounts
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World

# (winner, loser, how often).
Edge = tuple[int, int, float]
DISJOINT: list[Edge] = [(0, 1, 1), (2, 3, 1)]
CYCLE: list[Edge] = [(0, 1, 1), (1, 2, 1), (2, 0, 1)]


def task_of(
    edges: Sequence[Edge],
    vocab: int,
    *,
    ridge: float = 0.0,
    reference: Sequence[float] | None = None,
    features: Sequence[Sequence[float]] | None = None,
    options: Options | None = None,
) -> TableTask:
    """The task of fitting one context's comparisons; π_ref is uniform unless given, γ = 1.

    Args:
        edges: (winner, loser, count) triples.
        vocab: V; responses that no edge names are unseen.
        features: φ of a log-linear policy class, V rows; none for the table.
        options: replaces the one that ``ridge`` makes.
    """
    wins = np.zeros((1, 1, vocab, vocab))
    for winner, loser, count in edges:
        wins[0, 0, winner, loser] += count
    total = wins.sum((-1, -2))
    uniform = [1 / vocab] * vocab
    log_ref = torch.tensor([reference or uniform], dtype=torch.float64).log()
    phi = None if features is None else torch.tensor([features], dtype=torch.float64)
    world = World(log_ref, 1.0, policy_features=phi)
    return TableTask(WinCounts(wins, total, float(total.sum())), world, options or Options(ridge))


def hyper_of(objective: Objective, **values: float) -> dict[str, Tensor]:
    """An objective's hyperparameters for one data set, each of shape (1,)."""
    return {name: torch.tensor([value], dtype=torch.float64) for name, value in objective.resolve(values).items()}


def vanishing(objective: Objective, task: TableTask, **values: float) -> list[int]:
    """The responses whose probability goes to 0 without a ridge, decided by structure."""
    gone = task.vanishing(objective, hyper_of(objective, **values))
    return [int(i) for i in np.flatnonzero(gone[0, 0])]


def losers(edges: Sequence[Edge]) -> list[int]:
    """The responses that lost at least once, the set whose complement Lemma 1c speaks of."""
    return sorted({loser for _, loser, _ in edges})


def mass_outside(policy: Array, responses: Sequence[int]) -> float:
    """π of everything but ``responses``."""
    return math.fsum(np.delete(policy, list(responses)))

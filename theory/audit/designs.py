"""Small data sets on which preference objectives are known to degenerate, as win counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from theory.instances.tabular import Array
from theory.sampling import WinCounts
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World


@dataclass(frozen=True)
class Design:
    """Comparisons in one context of V responses.

    Attributes:
        wins: W, shape (V, V).
        roles: what each response is, for people: winner, loser, contested, unseen.
    """

    name: str
    wins: Array
    roles: tuple[str, ...]

    def task(self, gamma: float, ridge: float, options: Options) -> TableTask:
        """The data as a task; the reference is uniform, as in `theory degeneracy`."""
        total = np.array([[float(self.wins.sum())]])
        vocab = len(self.wins)
        uniform = torch.full((1, vocab), -float(np.log(vocab)), dtype=torch.float64)
        # With the oracle's true reward there would be none here: what is learned is what is asked about.
        chosen = Options(ridge, options.reward_head, "learned", options.seed)
        return TableTask(WinCounts(self.wins[None, None], total, float(total[0, 0])), World(uniform, gamma), chosen)


def _design(name: str, vocab: int, won: dict[tuple[int, int], float]) -> Design:
    wins = np.zeros((vocab, vocab))
    for (winner, loser), count in won.items():
        wins[winner, loser] = count
    names = {(True, True): "contested", (True, False): "winner", (False, True): "loser", (False, False): "unseen"}
    return Design(name, wins, tuple(names[bool(wins[y].any()), bool(wins[:, y].any())] for y in range(vocab)))


# A total order, every pair labelled once and the same way.
SEPARABLE = _design("separable: one total order", 4, {(i, j): 1.0 for i in range(4) for j in range(i + 1, 4)})
# Pairs that share no response, labelled one way, and two responses in no pair (drdo Lemma 1c).
DISJOINT = _design("disjoint pairs, one way", 6, {(0, 1): 1.0, (2, 3): 1.0})
# One label on one pair.
ONE_LABEL = _design("one label on one pair", 3, {(0, 1): 1.0})
# The same disjoint pairs, each labelled both ways.
CONTESTED = _design("disjoint pairs, both ways", 6, {(0, 1): 3.0, (1, 0): 1.0, (2, 3): 1.0, (3, 2): 1.0})
# Every response beats one and loses to another: nothing is separable, with one label a pair.
CYCLE = _design("a cycle, one label a pair", 3, {(0, 1): 1.0, (1, 2): 1.0, (2, 0): 1.0})

DESIGNS = (SEPARABLE, DISJOINT, ONE_LABEL, CONTESTED, CYCLE)

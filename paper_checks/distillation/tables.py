"""Small tables of one's own, and the exact fit of an objective to them."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from theory import objectives
from theory.instances.tabular import Array
from theory.objectives import Objective
from theory.sampling import WinCounts
from theory.solvers.existence import Mask
from theory.solvers.options import Options
from theory.solvers.selection import Chosen, Search
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World

# No label, first beats second, second beats first, labelled both ways.
LABELLINGS = ((0, 0), (1, 0), (0, 1), (1, 1))


def label_patterns(vocab: int) -> WinCounts:
    """Every way to label the pairs of V responses in one context: 4^(V(V−1)/2) data sets, each pair one of `LABELLINGS`."""
    first, second = np.triu_indices(vocab, 1)
    labels = np.array(list(product(LABELLINGS, repeat=len(first))), dtype=np.float64)
    wins = np.zeros((len(labels), 1, vocab, vocab))
    wins[:, 0, first, second], wins[:, 0, second, first] = labels[..., 0], labels[..., 1]
    # A draw y = y' carries no information and gives the empty pattern a total to divide by.
    totals = np.maximum(wins.sum((-1, -2)), 1.0)
    return WinCounts(wins, totals, float(totals.max()))


def disjoint_pairs(pairs: int, unseen: int) -> WinCounts:
    """One data set: response 2k beats 2k + 1, once, for k < pairs; ``unseen`` further responses in no pair."""
    vocab = 2 * pairs + unseen
    wins = np.zeros((1, 1, vocab, vocab))
    winner = 2 * np.arange(pairs)
    wins[0, 0, winner, winner + 1] = 1.0
    return WinCounts(wins, np.full((1, 1), float(pairs)), float(pairs))


def roles(pairs: int, unseen: int) -> Array:
    """0 for a winner of `disjoint_pairs`, 1 for a loser, 2 for an unseen response; shape (V,)."""
    return np.concatenate([np.tile([0.0, 1.0], pairs), np.full(unseen, 2.0)])


def masses(log_policy: Tensor, role: Array) -> dict[str, float]:
    """The probability of winners, losers and unseen responses."""
    probability = log_policy.exp().numpy()
    return {name: float(probability[role == i].sum()) for i, name in enumerate(("winners", "losers", "unseen"))}


def random_policy(seed: int, contexts: int, vocab: int, scale: float = 1.0) -> Tensor:
    """log softmax of normal logits, shape (X, V)."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(10,)))
    return torch.log_softmax(scale * torch.from_numpy(rng.standard_normal((contexts, vocab))), -1)


def random_reward(seed: int, contexts: int, vocab: int, scale: float = 1.0) -> Tensor:
    """A finite reward, normal and centred in each context, nats, shape (X, V)."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(11,)))
    reward = scale * torch.from_numpy(rng.standard_normal((contexts, vocab)))
    return reward - reward.mean(-1, keepdim=True)


class EnsembleTask(TableTask):
    """A task whose ensembles are given: an ensemble objective gets ``members``, each of shape (S, X, V)."""

    members: list[Tensor]

    def rewards(self, objective: Objective) -> list[Tensor | None]:
        return list(self.members) if objective.ensemble > 1 else super().rewards(objective)


def task_on(data: WinCounts, log_ref: Tensor, reward: Tensor | None = None, features: Tensor | None = None) -> TableTask:
    """The task without a ridge; a ``reward`` (X, V) is used as it is, else rewards are learned from the data."""
    world = World(log_ref, 1.0, reward, policy_features=features)
    return TableTask(data, world, Options(ridge=0.0, oracle="learned" if reward is None else "true"))


def minimise(task: TableTask, name: str, **values: float) -> Chosen:
    """The certified minimiser of a registered objective; fits of shape (S, X, V)."""
    chosen_objective = objectives.get(name)
    return Search(chosen_objective, [task]).at(chosen_objective.resolve(values))


def vanishing(task: TableTask, name: str, **values: float) -> Mask:
    """Responses that the objective sends to probability 0 on these data, by structure; (S, X, V) bool."""
    about = objectives.get(name)
    hyper = {key: torch.full((task.seeds,), value, dtype=torch.float64) for key, value in about.resolve(values).items()}
    return task.vanishing(about, hyper)

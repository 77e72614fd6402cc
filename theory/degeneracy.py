"""Where probability goes when pairs are disjoint, or their labels are not deterministic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from theory.errors import UserError
from theory.objectives import Objective
from theory.sampling import WinCounts
from theory.solvers.options import Options
from theory.solvers.selection import Search
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World
from theory.statistics.rates import Interval, proportion

ROLES = ("winner", "loser", "contested", "unseen")


@dataclass(frozen=True)
class Design:
    """K disjoint pairs in one context, m labels each, P(first beats second) the same for all.

    Attributes:
        pairs: K ≥ 1; responses 2k and 2k + 1 form pair k.
        unseen: responses in no pair (the complement that drdo Lemma 1c speaks of).
        data_sets: independent data sets.
        ridge: as everywhere; small, so that the bounded estimate shows the limit.
        seed: of the labels.
    """

    pairs: int = 5
    unseen: int = 2
    data_sets: int = 400
    ridge: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("pairs", "data_sets"):
            if getattr(self, name) < 1:
                raise UserError("--" + name.replace("_", "-"), getattr(self, name), "must be at least 1")
        if self.unseen < 0:
            raise UserError("--unseen", self.unseen, "must be zero or positive")

    @property
    def vocab(self) -> int:
        """Responses in all."""
        return 2 * self.pairs + self.unseen


@dataclass(frozen=True)
class Row:
    """What happened at one (m, P).

    Attributes:
        unanimous: share of pairs whose m labels agree, simulated, with a Wilson interval.
        exact: Pᵐ + (1 − P)ᵐ, which is 2^{1−m} for a fair pair.
        finite: share of data sets on which the objective is known to have a finite minimiser.
        undecided: share on which structure does not tell (`theory.simulation.Outcome`).
        mass: mean probability of each role's responses under the bounded estimate; a pair is
            contested when it was labelled both ways, else its responses are winner and loser.
        reference_mass: the same under π_ref, for comparison.
        vanishing: mean number of responses whose probability goes to 0 without the ridge.
    """

    labels: int
    preference: float
    unanimous: Interval
    exact: float
    finite: float
    undecided: float
    mass: dict[str, float]
    reference_mass: dict[str, float]
    vanishing: float


def unanimity(labels: int, preference: float) -> float:
    """P(all m labels of a pair agree) = Pᵐ + (1 − P)ᵐ; 2^{1−m} at P = ½. Source: ours, for drdo Lemma 1a."""
    return preference**labels + (1 - preference) ** labels


def degeneracy(objective: Objective, values: dict[str, float], design: Design, labels: int, preference: float) -> Row:
    """Fit ``objective`` to many data sets of one design and say which mass went where.

    The reference is uniform and γ = 1.

    Raises:
        UserError: labels below 1 or a preference outside [0, 1].
    """
    if labels < 1:
        raise UserError("--labels", labels, "must be at least 1")
    if not 0 <= preference <= 1:
        raise UserError("--preference", preference, "must be a probability")
    wins, role = _label(design, labels, preference)
    total = np.full((design.data_sets, 1), float(labels * design.pairs))
    uniform = torch.full((1, design.vocab), -float(np.log(design.vocab)), dtype=torch.float64)
    task = TableTask(WinCounts(wins, total, total[0, 0]), World(uniform, 1.0), Options(design.ridge, seed=design.seed))
    chosen = Search(objective, [task]).at(objective.resolve(values))
    policy = chosen.fits[0].logp.exp().numpy()[:, 0]
    gone = task.vanishing(objective, chosen.hyper)[:, 0]
    open_ = task.undecided(objective, chosen.hyper)
    agreed = (role != ROLES.index("contested"))[:, : 2 * design.pairs : 2]
    return Row(
        labels,
        preference,
        proportion(int(agreed.sum()), agreed.size),
        unanimity(labels, preference),
        float((~gone.any(1) & ~open_).mean()),
        float(open_.mean()),
        {name: float((policy * (role == i)).sum(1).mean()) for i, name in enumerate(ROLES)},
        {name: float((role == i).mean()) for i, name in enumerate(ROLES)},
        float(gone.sum(1).mean()),
    )


def _label(design: Design, labels: int, preference: float) -> tuple[np.ndarray, np.ndarray]:
    """Win counts (S, 1, V, V) and each response's role (S, V)."""
    key = (4, labels, int(preference * 2**30))
    rng = np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=key))
    first = rng.binomial(labels, preference, size=(design.data_sets, design.pairs))
    wins = np.zeros((design.data_sets, 1, design.vocab, design.vocab))
    even = 2 * np.arange(design.pairs)
    wins[:, 0, even, even + 1], wins[:, 0, even + 1, even] = first, labels - first
    role = np.full((design.data_sets, design.vocab), ROLES.index("unseen"))
    for offset, won in ((0, first), (1, labels - first)):
        role[:, even + offset] = np.select([won == labels, won == 0], [0, 1], 2)
    return wins, role

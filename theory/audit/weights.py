"""How hard one pair pulls on its winner and its loser, by autograd through the objective's one definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.audit.subject import Subject
from theory.instances import Instance
from theory.sampling import population
from theory.solvers.derivatives import pair_derivatives
from theory.solvers.pairloss import SIDES, PairLoss

# ℓ(log π_w, log π_l) with everything else held fixed, elementwise; nats.
TwoLogps = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Weights:
    """The loss of pairs and its derivatives in (log π_w, log π_l), tensors of the pairs' shape.

    Attributes:
        value: ℓ, nats.
        winner, loser: ∂ℓ/∂log π_w and ∂ℓ/∂log π_l; descent moves against them.
    """

    value: Tensor
    winner: Tensor
    loser: Tensor

    @property
    def strength(self) -> Tensor:
        """The larger of the two in magnitude; ∞ where it overflows."""
        largest = torch.maximum(self.winner.abs(), self.loser.abs())
        return torch.nan_to_num(largest, nan=torch.inf, posinf=torch.inf)


def has_weights(subject: Subject) -> bool:
    """Whether the objective pulls on a policy pair by pair."""
    return subject.objective.has_loss and subject.objective.reads("logp")


def typical_reward_margin(instance: Instance) -> float:
    """E[r*(y_w) − r*(y_l)] over labelled pairs of different responses, nats: positive, as labels follow the reward."""
    wins, reward = population(instance).wins[0], instance.reward()
    margins = reward[:, :, None] - reward[:, None, :]
    return float((wins * margins).sum() / wins.sum())


def pair_loss(subject: Subject, reference: tuple[Tensor, Tensor], reward_margin: float) -> TwoLogps:
    """ℓ at the subject's default hyperparameters.

    Args:
        reference: log π_ref of winner and loser, broadcastable against the pairs.
        reward_margin: Δr̂ of the fixed reward; a reward head of the student's own stays at 0.
    """
    one = torch.ones(1, dtype=torch.float64)
    fixed = {f"length_{side}": one for side in SIDES} | {f"student_reward_{side}": 0 * one for side in SIDES}
    fixed |= {"reward_chosen": reward_margin * one, "reward_rejected": 0 * one}
    fixed |= {f"ref_logp_{side}": logp for side, logp in zip(SIDES, reference, strict=True)}
    hyper = {name: torch.tensor(value, dtype=torch.float64) for name, value in subject.defaults.items()}
    # No variable is named, so that both log-probabilities are inputs, also of a loss that reads their margin.
    loss = PairLoss(subject.objective, subject.instance.gamma, hyper, fixed, subject.options.tied, ())
    return lambda winner, loser: loss(logp_chosen=winner, logp_rejected=loser)


def weights(loss: TwoLogps, winner: Tensor, loser: Tensor) -> Weights:
    """The weights at log-probabilities of one shape (P,)."""
    found = pair_derivatives(lambda **at: loss(at["winner"], at["loser"]), {"winner": winner, "loser": loser})
    return Weights(found.value, found.gradient["winner"], found.gradient["loser"])


def placed(margin: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """(log π_w, log π_l) with Δlogπ = ``margin`` whose likelier response has log-probability −``level``."""
    return -level - (-margin).clamp_min(0), -level - margin.clamp_min(0)


def weights_at(subject: Subject, margin: Tensor, level: Tensor) -> Weights:
    """The weights of neutral pairs: log π_ref = −level for both responses, Δr̂ as `typical_reward_margin`."""
    loss = pair_loss(subject, (-level, -level), typical_reward_margin(subject.instance))
    return weights(loss, *placed(margin, level))


# Below this share of its largest a weight has vanished.
VANISHED = 1e-8


def onset(strength: Callable[[Tensor], Tensor], points: np.ndarray) -> float | None:
    """Where ``strength`` has vanished for good: the first value from which on it stays below 1e-8 of its largest.

    Args:
        strength: non-negative, elementwise.
        points: ascending values to look at.

    Returns:
        The value, to 1e-6 of itself; ``-inf`` if the strength is 0 at every point, None if it does not vanish.
    """
    found = strength(torch.from_numpy(points)).numpy()
    largest = found.max()
    if largest == 0:
        return -np.inf
    alive = np.flatnonzero(~(found < VANISHED * largest))
    if alive[-1] == len(points) - 1:
        return None
    low, high = points[alive[-1]], points[alive[-1] + 1]
    while high - low > 1e-6 * max(1.0, abs(high)):
        middle = (low + high) / 2
        gone = float(strength(torch.tensor([middle], dtype=torch.float64))) < VANISHED * largest
        low, high = (low, middle) if gone else (middle, high)
    return float(high)

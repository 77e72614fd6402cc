"""Reward model by Bradley–Terry maximum likelihood."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from theory.objectives.pair import Pair
from theory.objectives.registry import objective


def bradley_terry(reward_chosen: Tensor, reward_rejected: Tensor) -> Tensor:
    """−log σ(r_w − r_l), the Bradley–Terry negative log-likelihood (nats, elementwise).

    Source: unified eq. 9; drdo eq. 2.
    """
    return -logsigmoid(reward_chosen - reward_rejected)


@objective(convex=True)
def reward(pair: Pair) -> Tensor:
    """Bradley–Terry reward model.

    Equation: −log σ(Δr_θ)
    Source: unified eq. 9; drdo eq. 2
    Limit: r = γ log π* up to a constant a context; the policy reported is exp(r/γ)/Z (unified eq. 8)
    """
    return bradley_terry(pair.student_reward_chosen, pair.student_reward_rejected)

"""Reverse-KL minimisation."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from theory.objectives.pair import Pair, Terms
from theory.objectives.registry import Hyper, objective


@objective(convex=True)
def rkl(
    pair: Pair,
    *,
    gamma: float,
    alpha: Annotated[float, Hyper("weight of the entropy bonus H(π)", low=0, open_low=True)] = 1.0,
    beta: Annotated[float, Hyper("weight of KL(π‖π_ref)", low=0)] = 0.05,
) -> Terms:
    """Reverse-KL minimisation (RKL).

    Equation: −E_{y~π}[r̂(y)/γ] − α H(π) + β KL(π‖π_ref)
    Source: unified eq. 14–15; α = 1 is the reverse KL itself; kl coefficient 0.05 in unified Table 5
    Limit: π* for α = 1 as β → 0; attains the Cramér–Rao constant
    """
    return Terms(reward=1 / gamma, entropy=alpha, kl=beta)


def rlhf_reward(reward: Tensor, ref_logp: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """r̂/γ − α log π_ref: with this reward and β' = α + β, RLHF is RKL (nats, elementwise).

    Any RLHF trainer therefore runs RKL through its reward function alone.
    Source: ours; unified App. B states the same policy as prior smoothing.
    """
    return reward / gamma - alpha * ref_logp

"""Preference maximum likelihood estimation."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from theory.objectives.pair import Pair, Terms
from theory.objectives.registry import Hyper, objective
from theory.objectives.reward import bradley_terry


def implicit_reward(logp: Tensor, ref_logp: Tensor, *, gamma: float | Tensor, **_: object) -> Tensor:
    """γ log π, the reward induced by a policy under the preference model (nats, elementwise).

    Source: unified §2.
    """
    return gamma * logp


@objective(convex=True, implicit_reward=implicit_reward, bradley_terry=True)
def pmle(
    pair: Pair,
    *,
    gamma: float,
    beta: Annotated[float, Hyper("weight of KL(π‖π_ref)", low=0)] = 0.01,
) -> Terms:
    """Preference maximum likelihood estimation (PMLE).

    Equation: −log σ(γ Δlogπ) + β KL(π‖π_ref)
    Source: unified eq. 4–5; β = 0.01 is our default (Table 5 has ": 1e-5 : 1e-2", both symbols lost: as we read it, β and γ,
        for with γ = 1e-5 the KL would cost more than the loss can gain)
    Limit: π* as β → 0; attains the Cramér–Rao constant
    """
    chosen = implicit_reward(pair.logp_chosen, pair.logp_chosen, gamma=gamma)
    rejected = implicit_reward(pair.logp_rejected, pair.logp_rejected, gamma=gamma)
    return Terms(bradley_terry(chosen, rejected), kl=beta)

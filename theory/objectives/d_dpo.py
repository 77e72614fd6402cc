"""DPO distilled from a reward model."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from theory.objectives.dpo import implicit_reward
from theory.objectives.pair import Pair
from theory.objectives.registry import Hyper, objective


@objective(convex=True, implicit_reward=implicit_reward)
def d_dpo(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("temperature of the implicit reward β log π/π_ref", low=0, open_low=True)] = 0.1,
) -> Tensor:
    """Distilled DPO: the implicit reward regressed on a learned one.

    Equation: (β(Δlogπ − Δlogπ_ref) − Δr̂)²
    Source: drdo eq. 4; Fisch et al. 2025; β = 0.1 is our default
    Limit: π_ref·exp(r̂/β)/Z, the RLHF optimum
    Note: label-free
    """
    chosen = implicit_reward(pair.logp_chosen, pair.ref_logp_chosen, beta=beta)
    rejected = implicit_reward(pair.logp_rejected, pair.ref_logp_rejected, beta=beta)
    return (chosen - rejected - pair.reward_margin) ** 2

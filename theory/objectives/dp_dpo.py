"""Pessimistic distilled DPO."""

from __future__ import annotations

from typing import Annotated

from theory.objectives.d_dpo import d_dpo
from theory.objectives.dpo import implicit_reward
from theory.objectives.pair import Pair, Terms
from theory.objectives.registry import Hyper, objective


@objective(convex=True, implicit_reward=implicit_reward)
def dp_dpo(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("temperature of the implicit reward β log π/π_ref", low=0, open_low=True)] = 0.1,
    lambda_: Annotated[float, Hyper("weight of KL(π_ref‖π)", low=0, anneal=(1e-4, 1e-2))] = 1e-2,
) -> Terms:
    """Pessimistic distilled DPO (dp-DPO).

    Equation: (β(Δlogπ − Δlogπ_ref) − Δr̂)² + λ KL(π_ref‖π)
    Source: Fisch et al. 2025; λ annealed 1e-4 → 1e-2 or constant; β = 0.1 is our default
    Limit: finite for λ > 0 and finite rewards; not π*
    Note: label-free
    """
    return Terms(d_dpo(pair, beta=beta), forward_kl=lambda_)

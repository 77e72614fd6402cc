"""Pessimistic DPO."""

from __future__ import annotations

from typing import Annotated

from theory.objectives.dpo import dpo, implicit_reward
from theory.objectives.pair import Pair, Terms
from theory.objectives.registry import Hyper, objective


@objective(convex=True, implicit_reward=implicit_reward, bradley_terry=True)
def p_dpo(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("temperature of the implicit reward β log π/π_ref", low=0, open_low=True)] = 0.1,
    lambda_: Annotated[float, Hyper("weight of KL(π_ref‖π)", low=0, anneal=(1e-4, 1e-2))] = 1e-2,
) -> Terms:
    """Pessimistic DPO (p-DPO).

    Equation: −log σ(β(Δlogπ − Δlogπ_ref)) + λ KL(π_ref‖π)
    Source: Fisch et al. 2025; λ annealed 1e-4 → 1e-2 or constant; β = 0.1 is our default
    Limit: finite on any data for λ > 0; not π*
    """
    return Terms(dpo(pair, beta=beta), forward_kl=lambda_)

"""Hybrid preference optimisation."""

from __future__ import annotations

from typing import Annotated

from theory.objectives.dpo import dpo, implicit_reward
from theory.objectives.pair import Pair, Terms
from theory.objectives.registry import Hyper, objective


@objective(convex=True, implicit_reward=implicit_reward, bradley_terry=True)
def hypo(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("temperature of the implicit reward β log π/π_ref", low=0, open_low=True)] = 0.05,
    kl: Annotated[float, Hyper("weight of the on-policy KL(π‖π_ref)", low=0)] = 0.01,
) -> Terms:
    """Hybrid preference optimisation (HyPO): DPO with an on-policy KL.

    Equation: −log σ(β(Δlogπ − Δlogπ_ref)) + κ KL(π‖π_ref)
    Source: Song et al. 2024; β = 0.05 and κ = 0.01 are our defaults
    Limit: not π*; the KL alone keeps it finite on separable data only for β ≥ 1
    """
    return Terms(dpo(pair, beta=beta), kl=kl)

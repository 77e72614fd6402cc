"""DPO distilled from an ensemble of reward models, with pessimism."""

from __future__ import annotations

from typing import Annotated

from theory.objectives.d_dpo import d_dpo
from theory.objectives.dpo import implicit_reward
from theory.objectives.pair import Pair, Terms
from theory.objectives.registry import Hyper, objective


@objective(convex=True, implicit_reward=implicit_reward, ensemble=3)
def e_dpo(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("temperature of the implicit reward β log π/π_ref", low=0, open_low=True)] = 0.1,
    lambda_: Annotated[float, Hyper("weight of KL(π_ref‖π)", low=0, anneal=(1e-4, 1e-2))] = 1e-2,
) -> Terms:
    """Ensemble-distilled DPO (e-DPO).

    Equation: min over i ≤ k of E_D[(β(Δlogπ − Δlogπ_ref) − Δr̂_i)²] + λ KL(π_ref‖π), k = 3
    Source: Fisch et al. 2025; drdo §5 (k = 3); β = 0.1 is our default
    Limit: finite for λ > 0 and finite rewards; not π*
    Note: on the table the k rewards are bootstrap fits, since a convex fit
        forgets its initialisation (the papers vary the reward heads' initialisation); the loss has
        the k members on its leading axis and the least member's mean over all the data is minimised
    """
    return Terms(d_dpo(pair, beta=beta), forward_kl=lambda_)

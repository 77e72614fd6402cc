"""REBEL: regressing relative rewards."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from theory.objectives.pair import Pair
from theory.objectives.registry import Hyper, objective


def implicit_reward(logp: Tensor, ref_logp: Tensor, *, eta: float | Tensor, **_: object) -> Tensor:
    """(1/η) log π/π_t (nats, elementwise). Source: unified eq. 10."""
    return (logp - ref_logp) / eta


@objective(convex=True, implicit_reward=implicit_reward)
def rebel(
    pair: Pair,
    *,
    eta: Annotated[float, Hyper("strength of the reward signal", low=0, open_low=True, tuned=True)] = 1.0,
) -> Tensor:
    """REBEL, one step from the sampling policy π_t (given as the reference).

    Equation: ((1/η)(Δlogπ − Δlogπ_t) − Δr̂)²
    Source: unified eq. 10; Gao et al. 2024; value 1.0 in unified Table 5 (as we read it: the symbol is lost)
    Limit: π_t·exp(η r̂)/Z, the RLHF optimum at β = 1/η
    Note: label-free
    """
    chosen = implicit_reward(pair.logp_chosen, pair.ref_logp_chosen, eta=eta)
    rejected = implicit_reward(pair.logp_rejected, pair.ref_logp_rejected, eta=eta)
    return (chosen - rejected - pair.reward_margin) ** 2

"""Reinforcement learning from human feedback."""

from __future__ import annotations

from typing import Annotated

from theory.objectives.pair import Pair, Terms
from theory.objectives.registry import Hyper, objective


@objective(convex=True)
def rlhf(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("weight of KL(π‖π_ref)", low=0, open_low=True)] = 0.05,
) -> Terms:
    """Reinforcement learning from human feedback (RLHF).

    Equation: −E_{y~π}[r̂(y)] + β KL(π‖π_ref)
    Source: unified eq. 1; kl coefficient 0.05 in unified Table 5
    Limit: π_ref·(π*)^{γ/β}/Z: underfits at fixed β, collapses to argmax r̂ as β → 0
    """
    return Terms(reward=1.0, kl=beta)

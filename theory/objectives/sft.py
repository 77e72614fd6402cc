"""Supervised fine-tuning on the preferred responses."""

from __future__ import annotations

from torch import Tensor

from theory.objectives.pair import Pair
from theory.objectives.registry import objective


@objective(convex=True)
def sft(pair: Pair) -> Tensor:
    """Supervised fine-tuning on the chosen response.

    Equation: −log π(y_w)
    Source: baseline of the unified and drdo papers
    Limit: the distribution of winners, ∝ μ(y)·Σ_{y′≠y} μ(y′)·P(y ≻ y′), which is not π*
    """
    return -pair.logp_chosen

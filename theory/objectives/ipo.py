"""Identity preference optimisation."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from theory.objectives.pair import Pair
from theory.objectives.registry import Hyper, objective


@objective(convex=True)
def ipo(
    pair: Pair,
    *,
    tau: Annotated[float, Hyper("target margin 1/(2τ) of the log-ratios", low=0, open_low=True, tuned=True)] = 0.1,
) -> Tensor:
    """Identity preference optimisation (IPO), on summed log-probabilities.

    Equation: (Δlogπ − Δlogπ_ref − 1/(2τ))²
    Source: Azar et al. 2024, a baseline of all three papers; τ = 0.1 is our default
    Limit: finite always (least squares on the comparison graph); log-ratios fit P − ½ scaled by 1/τ, not log π*
    Note: TRL averages the log-probabilities over tokens; this is the summed form of the paper
    """
    return (pair.logratio_margin - 1 / (2 * tau)) ** 2

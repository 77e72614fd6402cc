"""Chi-squared preference optimisation."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from theory.objectives.pair import Pair
from theory.objectives.registry import Hyper, objective
from theory.objectives.reward import bradley_terry

# Huang et al. cap the exponent at 20 in their implementation; beyond it only the logarithm grows.
LARGEST_EXPONENT = 20.0


def link(logratio: Tensor) -> Tensor:
    """φ(z) = z + log z of the density ratio z = π/π_ref, given log z (elementwise).

    Source: Huang et al. 2025, eq. 9.
    """
    return logratio.clamp(max=LARGEST_EXPONENT).exp() + logratio


@objective()
def chipo(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("weight of the χ² and KL regularisers", low=0, open_low=True)] = 0.05,
    r_max: Annotated[float, Hyper("bound on the reward; margins are clipped at ±2 r_max", low=0, open_low=True)] = 50.0,
) -> Tensor:
    """Chi-squared preference optimisation (χPO).

    Equation: −log σ(clip_{2R}[β(φ(z_w) − φ(z_l))]), φ(z) = z + log z, z = π/π_ref
    Source: Huang et al. 2025 (a baseline the reviewers asked for); β = 0.05 and R = 50 are our defaults
    Limit: π_ref·φ⁻¹((r* − Z)/β): heavier-tailed than RLHF's; not π*
    """
    margin = beta * (link(pair.logp_chosen - pair.ref_logp_chosen) - link(pair.logp_rejected - pair.ref_logp_rejected))
    bound = torch.as_tensor(2 * r_max, dtype=margin.dtype, device=margin.device)
    clipped = torch.clamp(margin, -bound, bound)
    return bradley_terry(clipped, torch.zeros_like(clipped))

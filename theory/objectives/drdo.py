"""Direct reward distillation and policy optimisation."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor
from torch.nn.functional import logsigmoid

from theory.objectives.numerics import log1mexp
from theory.objectives.pair import Pair
from theory.objectives.registry import Hyper, objective


def focal_log_odds(pair: Pair, *, gamma_f: float | Tensor) -> Tensor:
    """−(1 − p_w)^γf · log(π(y_w)/(1 − π(y_l))), p_w = σ(Δlogπ): the focal log-odds-unlikelihood.

    Elementwise, nats. Identically zero when y_w and y_l are the only responses (V = 2). At
    sequence scale log(1 − π(y_l)) is zero to machine precision and this is focal-weighted SFT.

    Source: drdo eq. 6, A.5.
    """
    log_weight = gamma_f * logsigmoid(-pair.logp_margin)
    return -log_weight.exp() * (pair.logp_chosen - log1mexp(pair.logp_rejected))


@objective()
def drdo(
    pair: Pair,
    *,
    alpha: Annotated[float, Hyper("weight of the focal term", low=0, open_low=True)] = 0.1,
    gamma_f: Annotated[float, Hyper("focal exponent γf", low=0)] = 2.0,
) -> Tensor:
    """Direct reward distillation and policy optimisation (DRDO).

    Equation: (Δr* − Δr̂_θ)² − α (1−p_w)^γf · log(π(y_w)/(1 − π(y_l))), p_w = σ(Δlogπ)
    Source: drdo eq. 6; α = 0.1, γf = 2
    Limit: not π*: with a separate head the focal term alone decides the policy; tied
        (r̂_θ = γ log π) the floor is smaller but not zero
    Note: no reference model
    """
    return (pair.reward_margin - pair.student_margin) ** 2 + alpha * focal_log_odds(pair, gamma_f=gamma_f)

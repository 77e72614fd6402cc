"""DRDO's teacher."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from theory.objectives.pair import Pair
from theory.objectives.registry import Hyper, objective
from theory.objectives.reward import reward
from theory.objectives.sft import sft


@objective(convex=True)
def oracle(
    pair: Pair,
    *,
    alpha_lm: Annotated[float, Hyper("weight of the language-modelling term", low=0)] = 0.01,
) -> Tensor:
    """DRDO's oracle: a reward head beside the language-model head.

    Equation: −log σ(Δr_θ) − α_lm log π(y_w)
    Source: drdo eq. 5; α_lm = 0.01 (drdo §5)
    Limit: on a table the heads share nothing: r = γ log π* up to a constant, π the distribution of winners
    """
    return reward(pair) + alpha_lm * sft(pair)

"""Simple preference optimisation."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from theory.objectives.pair import Pair
from theory.objectives.registry import Hyper, objective
from theory.objectives.reward import bradley_terry


def implicit_reward(logp: Tensor, ref_logp: Tensor, *, beta: float | Tensor, **_: object) -> Tensor:
    """β log π of a length-normalised log-probability (nats, elementwise)."""
    return beta * logp


@objective(convex=True, implicit_reward=implicit_reward)
def simpo(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("scale of the length-normalised log-probability", low=0, open_low=True)] = 2.0,
    target_margin: Annotated[float, Hyper("margin m that the chosen response should win by", low=0)] = 1.0,
) -> Tensor:
    """Simple preference optimisation (SimPO), length-normalised and reference-free.

    Equation: −log σ(β(log π(y_w)/|y_w| − log π(y_l)/|y_l|) − m)
    Source: Meng et al. 2024 (a baseline the reviewers asked for); β = 2 and m = 1 are our defaults
    Limit: not π* unless m = 0 and β = γ; lengths are 1 on a table
    """
    chosen = implicit_reward(pair.logp_chosen / pair.length_chosen, pair.logp_chosen, beta=beta)
    rejected = implicit_reward(pair.logp_rejected / pair.length_rejected, pair.logp_rejected, beta=beta)
    return bradley_terry(chosen - target_margin, rejected)

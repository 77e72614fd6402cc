"""Direct preference optimisation."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from theory.objectives.pair import Pair
from theory.objectives.registry import Hyper, objective
from theory.objectives.reward import bradley_terry


def implicit_reward(logp: Tensor, ref_logp: Tensor, *, beta: float | Tensor, **_: object) -> Tensor:
    """β log π/π_ref, the reward that DPO's policy stands for (nats, elementwise).

    Source: Rafailov et al. 2023; unified eq. 6.
    """
    return beta * (logp - ref_logp)


@objective(convex=True, implicit_reward=implicit_reward, bradley_terry=True)
def dpo(
    pair: Pair,
    *,
    beta: Annotated[float, Hyper("temperature of the implicit reward β log π/π_ref", low=0, open_low=True)] = 0.05,
) -> Tensor:
    """Direct preference optimisation (DPO).

    Equation: −log σ(β(Δlogπ − Δlogπ_ref))
    Source: unified eq. 6; drdo eq. 3; β = 0.05 in unified Tables 5–6
    Limit: π_ref·(π*)^{γ/β}/Z, as RLHF at the same β; not π* unless π_ref is uniform
    """
    chosen = implicit_reward(pair.logp_chosen, pair.ref_logp_chosen, beta=beta)
    rejected = implicit_reward(pair.logp_rejected, pair.ref_logp_rejected, beta=beta)
    return bradley_terry(chosen, rejected)

"""Preference distillation."""

from __future__ import annotations

from typing import Annotated

import torch

from theory.objectives.pair import Pair, Terms
from theory.objectives.pmle import implicit_reward
from theory.objectives.registry import Hyper, objective
from theory.objectives.reward import bradley_terry


@objective(convex=True, implicit_reward=implicit_reward)
def pref_distill(
    pair: Pair,
    *,
    gamma: float,
    beta: Annotated[float, Hyper("weight of KL(π‖π_ref)", low=0)] = 0.05,
) -> Terms:
    """Preference distillation from a learned reward.

    Equation: −[s log σ(γΔlogπ) + (1−s) log σ(−γΔlogπ)] + β KL(π‖π_ref), s = σ(Δr̂)
    Source: unified eq. 11–12; kl coefficient 0.05 in unified Table 5
    Limit: π* as β → 0; at β = 0 on a table exp(r̂/γ)/Z, the expected PMLE
    Note: label-free: s is the reward model's, not the annotator's
    """
    chosen = implicit_reward(pair.logp_chosen, pair.logp_chosen, gamma=gamma)
    rejected = implicit_reward(pair.logp_rejected, pair.logp_rejected, gamma=gamma)
    agree, disagree = bradley_terry(chosen, rejected), bradley_terry(rejected, chosen)
    return Terms(torch.sigmoid(pair.reward_margin) * agree + torch.sigmoid(-pair.reward_margin) * disagree, kl=beta)

"""Preference distillation whose pairs come from a base policy ν instead of the labelled data's μ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from paper_checks.unified.limits import settings
from theory.instances import Instance
from theory.instances.tabular import Array
from theory.objectives import get
from theory.sampling import WinCounts, draw, population
from theory.simulation import world_of
from theory.solvers.tabletask import TableTask
from theory.statistics.divergences import forward_kl


def learned_rewards(instance: Instance, n: int, sets: int, seed: int, reward_class: str) -> Tensor:
    """The Bradley–Terry MLE of ``sets`` data sets of n comparisons, shape (S, X, V)."""
    how = settings("rkl", "table", reward_class, alpha=1.0)
    return TableTask(draw(instance, n, seed, range(sets)), world_of(instance, how), how.options).reward_fit.reward


def distilled(instance: Instance, base: Array, rewards: Tensor, policy_class: str = "table") -> Tensor:
    """log π̂ of preference distillation (β = 0) of rewards (S, X, V) on all pairs that ν = ``base`` can draw."""
    how = settings("pref_distill", policy_class)
    pairs = population(replace(instance, data_policy=base))
    wins, totals = (np.repeat(table, len(rewards), axis=0) for table in (pairs.wins, pairs.totals))
    task = TableTask(WinCounts(wins, totals, pairs.n), world_of(instance, how), how.options)
    hyper = {"beta": torch.zeros(len(rewards), dtype=torch.float64)}
    return task.minimise(get("pref_distill"), hyper, rewards, task.log_ref).logp


def distilled_errors(
    instance: Instance, base: Array, n: int, *, policy_class: str = "table", reward_class: str = "table", sets: int, seed: int
) -> Array:
    """Forward KL of `distilled` when the rewards come from n comparisons drawn from μ, nats, shape (S,)."""
    logp = distilled(instance, base, learned_rewards(instance, n, sets, seed, reward_class), policy_class)
    return forward_kl(torch.from_numpy(np.log(instance.target)), logp, torch.from_numpy(instance.context_weights)).numpy()

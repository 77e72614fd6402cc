"""Data and tasks that several checks share, and minimisers found without any closed form."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from theory import objectives
from theory.instances import Instance
from theory.instances.tabular import Array
from theory.sampling import WinCounts
from theory.simulation import Settings, draw_data, make_task
from theory.solvers.options import Options
from theory.solvers.task import Task
from theory.statistics import divergences


def task_of(instance: Instance, n: float, *, replicates: int = 1, seed: int = 0, ridge: float = 0.0) -> Task:
    """The task of fitting ``replicates`` data sets of n comparisons (``inf``: the population)."""
    settings = Settings(objectives.get("reward"), options=Options(ridge))
    return make_task(instance, draw_data(instance, n, seed, range(replicates)), settings)


def by_newton(task: Task, name: str, reward: Tensor | None = None, **hyper: float) -> Tensor:
    """log π̂ of the objective ``name`` by Newton's method from π_ref, shape (S, X, V): no closed form is used."""
    values = {key: torch.full((task.seeds,), value, dtype=torch.float64) for key, value in hyper.items()}
    return task.iterate(objectives.get(name), values, reward, task.log_ref).logp


def distance(instance: Instance, log_policy: Tensor) -> Array:
    """Σ_x ρ_x KL(π*‖π), nats, shape (S,)."""
    log_target, weights = torch.from_numpy(np.log(instance.target)), torch.from_numpy(instance.context_weights)
    return divergences.forward_kl(log_target, log_policy, weights).numpy()


def gap(left: Tensor, right: Tensor) -> float:
    """The largest total-variation distance between two policies given by log-probabilities (…, X, V)."""
    return float(divergences.total_variation(left, right).max())


def counts(wins: Array) -> WinCounts:
    """One data set in one context from its win counts W (V, V)."""
    total = np.array([[wins.sum()]])
    return WinCounts(wins[None, None].astype(np.float64), total.astype(np.float64), float(wins.sum()))

"""Whether an objective has a given policy as minimiser at some value of its tuned hyperparameter: no fit is needed."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from theory.audit.subject import repeated
from theory.objectives import Objective
from theory.solvers.problem import Problem
from theory.solvers.selection import Search, grid
from theory.solvers.tabletask import TableTask

# Minimisers are the same below this KL(π_A‖π_B), nats.
SAME = 1e-12
# Gradients are parallel when the part of one that the other does not explain is below this share of it (cosine 1 − 5e-11).
PARALLEL = 1e-5
# Zooms into the bracket of the best value: 61 values each, so that log β is found to about 1e-8.
ROUNDS, WIDTH = 5, 61
# A zero of the distance is at least this far below its values at the edges of a bracket's second zoom.
DIP = 1e-2
POLICIES = 5


def corners(objective: Objective, values: dict[str, float]) -> list[dict[str, float]]:
    """``values``, and with each hyperparameter in turn at the lowest value that it may take, where that is finite."""
    found = [values]
    for p in objective.hyperparameters:
        if math.isfinite(p.about.low) and not p.about.open_low and values[p.name] != p.about.low:
            found.append({**values, p.name: p.about.low})
    return found


def columns(values: dict[str, float], size: int) -> dict[str, Tensor]:
    """The same hyperparameters for every data set, each of shape (size,)."""
    return {name: torch.full((size,), value, dtype=torch.float64) for name, value in values.items()}


def copies(task: TableTask, size: int) -> TableTask:
    """The data set of a task ``size`` times."""
    return TableTask(repeated(task.data, size), task.world, task.options)


def _problems(task: TableTask, objective: Objective, hyper: dict[str, Tensor], size: int) -> list[Problem]:
    """One a member of the ensemble of rewards; the rewards are fitted once."""
    rewards = [None if r is None else r.expand(size, -1, -1) for r in task.rewards(objective)]
    return [copies(task, size).problem(objective, hyper, reward) for reward in rewards]


def _theta(problem: Problem, logp: Tensor) -> Tensor:
    """Parameters whose policy is ``logp`` (S, X, V), and whose reward head holds γ log π."""
    table = logp.flatten(0, 1).unsqueeze(1)
    return problem.start(table, problem.gamma * table)


def _in_logits(problem: Problem, theta: Tensor, *, step: bool) -> Tensor:
    """The policy's part of a step or a gradient in the parameters, shape (P, V); a lone reward head stands for r = γ log π."""
    part = theta[:, : problem.log_ref.shape[-1]]
    if "policy" in problem.variables:
        return part
    return part / problem.gamma if step else part * problem.gamma


def newton_distance(task: TableTask, objective: Objective, values: dict[str, float], logp: Tensor) -> float:
    """`newton_distances` at one setting."""
    return float(newton_distances(task, objective, columns(values, 1), logp)[0])


def newton_distances(task: TableTask, objective: Objective, hyper: dict[str, Tensor], logp: Tensor) -> Tensor:
    """KL from a policy to the minimiser near it, to second order: ½ dᵀ(diag π − ππᵀ)d, d the Newton step in the logits.

    Zero exactly at stationary points; ∞ where the objective does not curve upwards in every
    direction, which it does at a strict minimum.

    Args:
        task: one data set.
        hyper: S settings, each of shape (S,).
        logp: the policy, shape (X, V).

    Returns:
        Σ_x ρ_x KL, nats, shape (S,); for an ensemble, of its first member.
    """
    size = len(next(iter(hyper.values()))) if hyper else 1
    problem = _problems(task, objective, hyper, size)[0]
    theta = _theta(problem, logp.expand(size, -1, -1))
    _, gradient, hessian = problem.evaluate(theta)
    scale = hessian.diagonal(dim1=-2, dim2=-1).abs().amax(-1).clamp_min(1e-300)
    matrix = hessian + scale[:, None, None] * problem.gauge
    matrix.diagonal(dim1=-2, dim2=-1).add_(1e-13 * scale[:, None])
    factor, failed = torch.linalg.cholesky_ex(matrix)
    step = _in_logits(problem, torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1), step=True)
    p = logp.exp().repeat(size, 1)
    kl = ((p * step**2).sum(-1) - (p * step).sum(-1) ** 2) / 2
    kl = torch.where((failed == 0) & torch.isfinite(kl), kl, torch.inf)
    return (kl.reshape(size, -1) * task.weights).sum(-1)


def locate(task: TableTask, objective: Objective, values: dict[str, float], logp: Tensor) -> dict[str, float] | None:
    """Hyperparameters at which ``logp`` (X, V) is stationary; None if no value of the tuned one makes it so.

    A grid of the tuned hyperparameter (`selection.grid`), then zooms into the best value's bracket,
    all values one batch.
    """
    tuned = objective.tuned
    if tuned is None:
        return values if newton_distance(task, objective, values, logp) <= SAME else None

    def distance(tried: np.ndarray) -> np.ndarray:
        hyper = columns(values, len(tried)) | {tuned.name: torch.from_numpy(tried)}
        return newton_distances(task, objective, hyper, logp).numpy()

    tried = np.array(grid(tuned)[::-1])
    for zoom in range(ROUNDS + 1):
        found = distance(tried)
        k = int(found.argmin())
        if not np.isfinite(found[k]) or (zoom == 1 and found[k] > DIP * max(found[0], found[-1])):
            return None
        if tried[k] == 0 or zoom == ROUNDS:
            break
        # Below the grid's least positive value there may only be 0.
        low, high = max(tried[max(k - 1, 0)], tried[k] / 2), tried[min(k + 1, len(tried) - 1)]
        tried = np.geomspace(low, high, WIDTH)
    return {**values, tuned.name: float(tried[k])} if found[k] <= SAME else None


def minimiser(task: TableTask, objective: Objective, values: dict[str, float]) -> Tensor:
    """log π of the fitted minimiser, shape (X, V)."""
    return Search(objective, [task]).at(values).fits[0].logp[0]


def divergence(task: TableTask, first: Tensor, second: Tensor) -> float:
    """Σ_x ρ_x KL(first‖second), nats, of log-probabilities (X, V); also where it is far below rounding of their sums."""
    t = second - first
    return float((task.weights[0] * (first.exp() * (torch.expm1(t) - t)).sum(-1)).sum())


def random_policies(task: TableTask, count: int = POLICIES) -> Tensor:
    """log π with normal logits, always the same, shape (count, X, V)."""
    generator = torch.Generator().manual_seed(7)
    return torch.log_softmax(torch.randn(count, *task.world.log_ref.shape, dtype=torch.float64, generator=generator), -1)


def policy_gradient(task: TableTask, objective: Objective, values: dict[str, float], logp: Tensor) -> Tensor:
    """Gradient of the whole objective in the logits of policies (S, X, V), shape (S, X, V).

    Of the least member for an ensemble; a reward head beside the policy holds γ log π.
    """
    size = len(logp)
    found: list[tuple[Tensor, Tensor]] = []
    for problem in _problems(task, objective, columns(values, size), size):
        value, gradient, _ = problem.evaluate(_theta(problem, logp))
        total = (value.reshape(size, -1) * task.weights).sum(-1)
        found.append((total, _in_logits(problem, gradient, step=False).reshape(logp.shape)))
    least = torch.stack([total for total, _ in found]).argmin(0)
    gradients = torch.stack([g for _, g in found])[least, torch.arange(size)]
    return gradients * task.weights.unsqueeze(-1)


def scale_between(first: Tensor, second: Tensor) -> float | None:
    """The positive k with ``first`` = k·``second`` everywhere; None if there is none."""
    k = float((first * second).sum() / second.square().sum().clamp_min(1e-300))
    residual = float((first - k * second).norm())
    return k if k > 0 and residual <= PARALLEL * float(first.norm()) else None


def expressions(values: dict[str, float], gamma: float) -> dict[str, float]:
    """k·γᵉ·xᵖ for x a hyperparameter, a sum of two or 1, k ∈ {1, 2, 4, ½, ¼}, e and p small; by name, simplest first."""
    named = {name.rstrip("_"): value for name, value in values.items() if value > 0}
    sums = {f"({n} + {m})": v + u for (n, v), (m, u) in combinations(named.items(), 2)}
    found: dict[str, float] = {}
    for factor, power, exponent in product((1.0, 2.0, 0.5, 4.0, 0.25), (1, -1, 2, -2), (0, 1, -1)):
        for name, value in {**named, **sums, "": 1.0}.items():
            found.setdefault(_written(factor, exponent, name, power), factor * gamma**exponent * value**power)
    return found


def _written(factor: float, exponent: int, name: str, power: int) -> str:
    """A monomial as people write it."""
    parts = [(str(factor.as_integer_ratio()[0]), 1), (str(factor.as_integer_ratio()[1]), -1), ("γ", exponent), (name, power)]
    above, below = (
        [text + ("²" if abs(p) == 2 else "") for text, p in parts if p * sign > 0 and text not in ("1", "")] for sign in (1, -1)
    )
    top = "·".join(above) or "1"
    bottom = "·".join(below)
    if not bottom:
        return top[1:-1] if top.startswith("(") and top.endswith(")") else top
    return f"{top}/({bottom})" if len(below) > 1 else f"{top}/{bottom}"

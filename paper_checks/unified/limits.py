"""Asymptotic constants of restricted classes by the delta method, and the rates that simulation shows.

On a log-linear class log π = φ·w − log Z with π* in it, an efficient estimate has covariance
(φᵀIφ)⁻¹/n in w, I the Fisher information in the logits, and n·E[KL] → c = ½ tr((φᵀIφ)⁻¹ φᵀSφ), where
S = diag(π*) − π*π*ᵀ; contexts are weighted by ρ. Source: ours, as `efficiency.asymptotic_constant`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theory.instances import Instance
from theory.instances.tabular import Array
from theory.objectives import get
from theory.simulation import Settings, draw_data, make_task, solve
from theory.solvers.newton import CERTIFIED
from theory.solvers.options import Options
from theory.solvers.selection import Search
from theory.solvers.task import Task
from theory.statistics import rates
from theory.statistics.divergences import forward_kl
from theory.statistics.efficiency import information

CONFIDENCE = 0.99


def covariance(policy: Array) -> Array:
    """Cov_π of the responses' indicators, diag(π) − ππᵀ, shape (X, V, V)."""
    return np.einsum("xv,vu->xvu", policy, np.eye(policy.shape[-1])) - policy[:, :, None] * policy[:, None, :]


def pulled(instance: Instance, features: Array, table: Array) -> Array:
    """Σ_x ρ_x φ_xᵀ T_x φ_x of tables T (X, V, V), shape (d, d)."""
    return np.einsum("x,xvd,xvu,xue->de", instance.context_weights, features, table, features, optimize=True)


def class_constant(instance: Instance, features: Array) -> float:
    """c of an efficient estimate in a log-linear class that contains π*, nats; features (X, V, d)."""
    fisher = pulled(instance, features, information(instance))
    return float(np.trace(np.linalg.solve(fisher, pulled(instance, features, covariance(instance.target))))) / 2


def preference_constant(instance: Instance) -> float:
    """lim n·E of E_μ[(σ(Δr̂) − σ(Δr*))²] for an efficient estimate on the table: Σ_x tr(I_x⁺ G_x).

    G_x = γ² Σ_{i<j} 2μ_iμ_j σ'(γΔ_ij)² (e_i − e_j)(e_i − e_j)ᵀ; the context weights cancel.
    """
    win, mu = instance.win_probability(), instance.data_policy
    edges = instance.gamma**2 * 2 * mu[:, :, None] * mu[:, None, :] * (win * (1 - win)) ** 2
    edges[:, np.arange(instance.vocab), np.arange(instance.vocab)] = 0
    laplacian = np.einsum("xv,vu->xvu", edges.sum(-1), np.eye(instance.vocab)) - edges
    return float(np.einsum("xij,xji->", np.linalg.pinv(information(instance), hermitian=True), laplacian))


def projected_constant(instance: Instance, features: Array, weight: Array) -> float:
    """c of the table's estimate projected onto a log-linear class that contains π*, nats.

    The second stage minimises ½Σ_x ρ_x (φw − ẑ)ᵀ W_x (φw − ẑ) near π*: W = S for RKL, and the
    information under ν for preference distillation with pairs from ν. By Gauss and Markov no W does
    better than the information under μ, which gives `class_constant`.

    Args:
        weight: W, shape (X, V, V), constants in its null space.
    """
    inverse = np.linalg.pinv(information(instance), hermitian=True)
    noise = pulled(instance, features, weight @ inverse @ weight)
    curvature = np.linalg.inv(pulled(instance, features, weight))
    return float(np.trace(pulled(instance, features, covariance(instance.target)) @ curvature @ noise @ curvature)) / 2


def variance_coverage(instance: Instance, features: Array | None = None) -> float:
    """sup_f E_x Var_{π*}(f)/E_x Var_μ(f) over a log-linear class, or over the table; at most C_Π.

    Definition 3 centres both moments under μ. The KL does not see a shift within a context, so that
    Theorem 4 holds with this smaller coefficient as well (centre under π* in step 4 of `constants`).
    """
    target, data = covariance(instance.target), covariance(instance.data_policy)
    if features is not None:
        return _ratio(pulled(instance, features, target), pulled(instance, features, data))
    return max(_ratio(t, d) for t, d in zip(target, data, strict=True))


def _ratio(numerator: Array, denominator: Array) -> float:
    values, vectors = np.linalg.eigh(denominator)
    seen = values > values.max() * 1e-13
    basis = vectors[:, seen] / np.sqrt(values[seen])
    return float(np.linalg.eigvalsh(basis.T @ numerator @ basis)[-1])


def sandwiched(instance: Instance, constant: float, coverage: float, dimensions: int) -> tuple[float, float]:
    """c over its lower bound and over its upper bound: c ≥ K/γ² and c ≤ d·K/(4γ²·min σ'), K = `variance_coverage`.

    Both follow from ½γ²·4min σ'·Cov_μ ⪯ I ⪯ ½γ²·Cov_μ.
    """
    win = instance.win_probability()
    slope = float((win * (1 - win)).min())
    lower, upper = coverage / instance.gamma**2, dimensions * coverage / (4 * instance.gamma**2 * slope)
    return constant / lower, constant / upper


def settings(name: str, policy_class: str = "table", reward_class: str = "table", **values: float) -> Settings:
    """An objective of the paper as its theorems take it: β = 0 (α = 1 for RKL), and no ridge."""
    return Settings(get(name), {"beta": 0.0, **values}, "fixed", Options(ridge=0.0), policy_class, reward_class)


def errors(instance: Instance, how: Settings, n: int, sets: int, seed: int) -> Array:
    """Forward KL of ``sets`` data sets of n comparisons, nats; infinite where a table has no finite minimiser."""
    task = make_task(instance, draw_data(instance, n, seed, range(sets)), how)
    if how.policy_class == how.reward_class == "table":
        return solve(instance, task, how).forward_kl
    logp = fitted(task, how)
    return forward_kl(torch.from_numpy(np.log(instance.target)), logp, torch.from_numpy(instance.context_weights)).numpy()


def fitted(task: Task, how: Settings) -> Tensor:
    """log π̂ of every data set, certified, shape (S, X, V).

    Without the linear programme a data set that decides whether a log-linear class has a minimiser:
    our n are far beyond separable data, which would show as an error that does not fall.
    """
    (fit,) = Search(how.objective, [task]).at(how.objective.resolve(how.values)).fits
    assert float(fit.gradient_norm.max()) <= CERTIFIED
    return fit.logp


def shown(interval: rates.Interval) -> list[float]:
    """An interval as evidence: value, low, high."""
    return [interval.value, interval.low, interval.high]


def rate(find: Callable[[int], Array], constant: float, sizes: Sequence[int]) -> dict[str, Any]:
    """The log–log slope in n of the errors that ``find`` gives, and n·error/c at the largest n, with 99 % intervals."""
    found = {n: find(n) for n in sizes}
    points = np.concatenate([np.full(len(e), float(n)) for n, e in found.items()])
    slope = rates.slope(points, np.concatenate([*found.values()]), confidence=CONFIDENCE)
    last = sizes[-1]
    ratio = rates.mean(last * found[last] / constant, confidence=CONFIDENCE)
    shared = {"n": list(sizes), "data_sets": len(found[last]), "constant": constant}
    return {**shared, "slope": shown(slope), "n_error_over_constant": shown(ratio)}


def regular(found: dict[str, Any]) -> bool:
    """Whether a measured `rate` is 1/n with the constant predicted: both intervals hold the prediction."""
    _, low, high = found["slope"]
    _, least, most = found["n_error_over_constant"]
    return bool(low <= -1 <= high and least <= 1 <= most)

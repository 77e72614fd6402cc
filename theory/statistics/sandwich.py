"""The sandwich covariance of a fitted table, whatever the objective: how every comparison moved log π̂."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from theory.instances.tabular import Array, expit
from theory.objectives import Objective
from theory.solvers.problem import CHUNK, Problem
from theory.solvers.tabletask import TableTask
from theory.solvers.task import REWARD, Fit
from theory.statistics.stages import Channel, Stage, scatter

# Share of a flat direction that may move log π̂ by rounding alone.
MOVES = 1e-4
# Least eigenvalue of a covariance, as a share of the uncentred one's largest, that is not rounding.
RANK = 1e-12


@dataclass(frozen=True)
class Sandwich:
    """How a comparison moves the fitted log-probabilities in each of P contexts.

    The estimate solves Σ_i ψ_i(θ) = 0, stage by stage. One comparison with winner j and loser k
    has the stacked score u_jk = ∂ℓ_jk/∂(tables of every stage), and its influence on log π̂ is
    A·(u_jk − ū), with ū the mean over the context's data and, for one stage, A = −J H⁺, where
    H is the Hessian in the parameters and J = ∂ log π/∂θ. A second stage that reads a reward r̂
    fitted to the same data adds the columns −J H⁺(−G H_r⁺), G = ∂²L/∂θ∂r. Terms that depend on no
    comparison cancel in u − ū. Tensors in float64, rewards and log-probabilities in nats.

    Source: M-estimation (Huber 1967; two stages: Newey and McFadden 1994, §6); centring is the
    infinitesimal jackknife (Jaeckel 1972).

    Attributes:
        map: A, shape (P, V, D); D = V times the number of tables.
        channels: the scores, sparsely.
        frequencies: share of each labelled pair in its context's data, shape (P, V, V).
        identified: no direction that moves log π̂ is flat but for the ridge, shape (P,).
    """

    map: Tensor
    channels: list[Channel]
    frequencies: Tensor
    identified: Tensor

    @property
    def vocab(self) -> int:
        """V."""
        return self.frequencies.shape[-1]

    @cached_property
    def mean(self) -> Tensor:
        """ū, shape (P, D)."""
        total = self.map.new_zeros(len(self.map), self.map.shape[-1])
        for c in self.channels:
            total[:, self._rows(c)] += (self.frequencies * c.slope).sum(-1 if c.side == "chosen" else -2)
        return total

    @cached_property
    def second_moment(self) -> Tensor:
        """E[u uᵀ] over the context's data, shape (P, D, D)."""
        total = self.map.new_zeros(len(self.map), self.map.shape[-1], self.map.shape[-1])
        for a in self.channels:
            for b in self.channels:
                product = self.frequencies * a.slope * b.slope
                total[:, self._rows(a), self._rows(b)] += scatter(product, a.side, b.side)
        return total

    def _rows(self, channel: Channel) -> slice:
        return slice(channel.block * self.vocab, (channel.block + 1) * self.vocab)

    @cached_property
    def _raw(self) -> Tensor:
        return self.map @ self.second_moment @ self.map.mT

    @cached_property
    def covariance(self) -> Tensor:
        """n_x times the asymptotic covariance of log π̂(·|x), shape (P, V, V): A Cov(u) Aᵀ."""
        shift = (self.map @ self.mean.unsqueeze(-1)).squeeze(-1)
        return self._raw - shift.unsqueeze(-1) * shift.unsqueeze(-2)

    @property
    def estimable(self) -> Tensor:
        """Whether the data vary in every direction of log π̂ (rank V − 1), shape (P,).

        One comparison, or several that all say the same, leave nothing to estimate a variance from.
        """
        least = torch.linalg.eigvalsh(self.covariance)[:, 1]
        return least > RANK * self._raw.diagonal(dim1=-2, dim2=-1).sum(-1)

    def influence(self) -> Tensor:
        """A·(u_jk − ū) for every possible comparison: shape (P, V, V, V), axes winner, loser, response.

        A comparison added with weight ε to n_x others moves log π̂ by ε/n_x times this.
        """
        size = self.vocab
        u = self.map.new_zeros(len(self.map), size, size, self.map.shape[-1])
        index = torch.arange(size)
        for c in self.channels:
            winner, loser = index[:, None], index[None, :]
            u[:, winner, loser, (winner if c.side == "chosen" else loser) + c.block * size] += c.slope
        return torch.einsum("pvd,pjkd->pjkv", self.map, u - self.mean[:, None, None])


def sandwiches(task: TableTask, objective: Objective, hyper: dict[str, Tensor], fit: Fit) -> Iterator[Sandwich]:
    """The sandwich of a fit, in runs of contexts (data sets × contexts, in order) that fit in memory.

    Exact derivatives at the fit; the ridge is part of H. For an ensemble's least member, or a
    log-linear class, there is none.
    """
    if objective.ensemble > 1:
        raise NotImplementedError("the least member of an ensemble is not a smooth function of the data")
    (reward,) = task.rewards(objective)
    final = task.problem(objective, hyper, reward)
    if final.shared:
        raise NotImplementedError("classes that share parameters between contexts have no table of their own")
    tables = {"policy": fit.logp, "student": fit.student}
    learned = objective.needs_reward and task.options.oracle == "learned"
    first = task.problem(REWARD, {}, None) if learned else None
    step = max(1, CHUNK // final.frequencies[0].numel())
    for start in range(0, final.size, step):
        part = slice(start, start + step)
        inside = {v: t.flatten(0, 1)[part] for v, t in tables.items() if t is not None and v in final.variables}
        stages = [Stage(_take(final, part), inside)]
        if first is not None:
            student = task.reward_fit.student
            assert student is not None
            stages.append(Stage(_take(first, part), {"student": student.flatten(0, 1)[part]}))
        yield _sandwich(*stages)


def _take(problem: Problem, part: slice) -> Problem:
    return problem.take(part)  # type: ignore[arg-type]


def _share(image: Tensor, source: Tensor) -> Tensor:
    """‖image‖/‖source‖, 0 where there is no source, shape (P,)."""
    return torch.linalg.matrix_norm(image) / torch.linalg.matrix_norm(source).clamp_min(1e-300)


def _sandwich(final: Stage, first: Stage | None = None) -> Sandwich:
    jacobian, flat = final.jacobian(), final.flat()
    moved = _share(jacobian @ flat, flat)
    reach = -jacobian @ final.inverse()
    # The map acts on scores in log π; (I − π1ᵀ) turns them into scores in the logits.
    size = reach.shape[-1]
    change = final.to_parameters(torch.eye(size, dtype=torch.float64).expand(len(reach), size, size))
    channels, maps = final.channels(), [reach @ change]
    if first is not None:
        through = reach @ final.cross()
        flat = first.flat()
        moved = torch.maximum(moved, _share(through @ flat, flat) / torch.linalg.matrix_norm(through).clamp_min(1e-300))
        channels += [replace(c, block=len(final.problem.variables) + c.block) for c in first.channels()]
        maps.append(-through @ first.inverse())
    return Sandwich(torch.cat(maps, -1), channels, final.problem.frequencies[:, 0], moved <= MOVES)


@dataclass(frozen=True)
class Variances:
    """n_x·Var(log π̂(y|x)) and whether it can be trusted.

    Attributes:
        variance: shape (S, X, V), nats².
        identified, estimable: see `Sandwich`; shape (S, X).
    """

    variance: Array
    identified: np.ndarray
    estimable: np.ndarray


def variances(task: TableTask, objective: Objective, hyper: dict[str, Tensor], fit: Fit) -> Variances:
    """The diagonal of the sandwich covariance, for every context of every data set."""
    parts = [
        (s.covariance.diagonal(dim1=-2, dim2=-1), s.identified, s.estimable) for s in sandwiches(task, objective, hyper, fit)
    ]
    variance, identified, estimable = (
        torch.cat(part).unflatten(0, (task.seeds, -1)).numpy() for part in zip(*parts, strict=True)
    )
    return Variances(variance.clip(min=0.0), identified, estimable)


def intervals(logp: Array, variance: Array, confidence: float) -> tuple[Array, Array]:
    """Confidence bounds on π(y|x) from Var(log π̂), by the delta method on the log-odds.

    σ(log-odds ± z·se/(1 − π̂)): the bounds stay in (0, 1), and their logarithms bound log π. With
    V = 2 this is the textbook interval of a logistic log-odds, se = √(1/w + 1/l).

    Args:
        logp: log π̂, any shape, nats.
        variance: of log π̂, the same shape.
        confidence: coverage asked for, in (0, 1).

    Returns:
        Lower and upper bounds on the probability.
    """
    other = -np.expm1(logp)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds, width = logp - np.log(other), NormalDist().inv_cdf((1 + confidence) / 2) * np.sqrt(variance) / other
        return expit(odds - width), expit(odds + width)


def variance_constant(task: TableTask, objective: Objective, hyper: dict[str, Tensor], fit: Fit) -> Array:
    """c with n·E[KL(π_∞‖π̂_n)] → c, where π_∞ is the objective's own limit: ½ Σ_x tr(S_x V_x), nats, shape (S,).

    S_x = diag(π) − ππᵀ at the limit and V_x = lim n_x·Cov(logits); since E_π[δ log π] = 0 the trace
    is Σ_y π(y|x)·n_x·Var(log π̂(y|x)). At the population of a consistent and efficient method it is
    the Cramér–Rao constant `efficiency.asymptotic_constant`; for an inconsistent one it is the
    variance part alone. Source: ours.
    """
    found = variances(task, objective, hyper, fit)
    return (np.exp(fit.logp.numpy()) * found.variance).sum((-1, -2)) / 2

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
from theory.solvers.derivatives import PairDerivatives, pair_derivatives
from theory.solvers.pairloss import SIDES, PairLoss
from theory.solvers.problem import CHUNK, Problem
from theory.solvers.tabletask import TableTask
from theory.solvers.task import REWARD, Fit

# Eigenvalues of a Hessian below this share of the largest belong to directions that are not identified.
FLAT = 1e-10
# Length of the part of such directions that may be rounding.
MOVES = 1e-4
# Least eigenvalue of a covariance, as a share of the uncentred one's largest, that is not rounding.
RANK = 1e-12


@dataclass(frozen=True)
class Channel:
    """One input of a loss, as the score of every labelled pair.

    Attributes:
        slope: ∂ℓ/∂input at each pair (winner on axis −2), shape (P, V, V).
        side: the response whose number the input is, ``chosen`` or ``rejected``.
        block: which table of parameters the number stands in.
    """

    slope: Tensor
    side: str
    block: int


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


def scatter(table: Tensor, row: str, column: str) -> Tensor:
    """A table of pairs (P, V, V), winner on axis −2, as a matrix over the responses of two sides."""
    if row == column:
        return torch.diag_embed(table.sum(-1 if row == "chosen" else -2))
    return table if row == "chosen" else table.mT


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
        stages = [_Stage(_take(final, part), inside)]
        if first is not None:
            student = task.reward_fit.student
            assert student is not None
            stages.append(_Stage(_take(first, part), {"student": student.flatten(0, 1)[part]}))
        yield _sandwich(*stages)


def _take(problem: Problem, part: slice) -> Problem:
    return problem.take(part)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Stage:
    """One minimisation at its solution: a table of parameters for each trained variable, (P, V)."""

    problem: Problem
    tables: dict[str, Tensor]

    @cached_property
    def _loss(self) -> PairLoss:
        p = self.problem
        one = torch.ones_like(p.log_ref[:, 0, :1, None])
        fixed = {"length_chosen": one, "length_rejected": one, **_ends("ref_logp", p.log_ref[:, 0])}
        hyper = {name: value[:, None, None] for name, value in p.hyper.items()}
        return PairLoss(p.objective, p.gamma, hyper, fixed, p.tied, p.variables)

    @cached_property
    def _derivatives(self) -> PairDerivatives:
        """ℓ differentiated in the trained tables and in the fixed reward, at every pair."""
        shape = self.problem.frequencies[:, 0].shape
        chosen = {v: self.tables[v].unsqueeze(-1).expand(shape) for v in self.problem.variables}
        rejected = {v: self.tables[v].unsqueeze(-2).expand(shape) for v in self.problem.variables}
        inputs = self._loss.inputs(chosen, rejected)
        if self.problem.reward is not None:
            inputs |= {name: t.expand(shape) for name, t in _ends("reward", self.problem.reward[:, 0]).items()}
        return pair_derivatives(self._loss, inputs)

    def channels(self) -> list[Channel]:
        """The scores in the tables of this stage, before any change to logits."""
        if not self.problem.objective.has_loss:
            return []
        gradient = self._derivatives.gradient
        found = [(k, s) for k, v in enumerate(self.problem.variables) for s in self._loss.sources(v)]
        return [Channel(_seen(gradient[name] * sign, self.problem), side, k) for k, (name, side, sign) in found]

    def to_parameters(self, table: Tensor) -> Tensor:
        """(P, D, ·) of derivatives in log π (and rewards) as derivatives in the logits: (I − π1ᵀ) on the policy."""
        policy = self.tables.get("policy")
        if policy is None:
            return table
        size = policy.shape[-1]
        top = table[:, :size] - policy.exp().unsqueeze(-1) * table[:, :size].sum(1, keepdim=True)
        return torch.cat([top, table[:, size:]], 1)

    def cross(self) -> Tensor:
        """G = ∂²L/∂θ∂r, shape (P, D, V); the part of −a·E_π[r] is −a(diag π − ππᵀ)."""
        p = self.problem
        size = p.log_ref.shape[-1]
        total = p.log_ref.new_zeros(p.size, len(p.variables) * size, size)
        if p.objective.has_loss:
            hessian = self._derivatives.hessian
            for k, v in enumerate(p.variables):
                for name, side, sign in self._loss.sources(v):
                    for other in SIDES:
                        weighted = p.frequencies[:, 0] * _seen(hessian[name, f"reward_{other}"] * sign, p)
                        total[:, k * size : (k + 1) * size] += scatter(weighted, side, other)
        total = self.to_parameters(total)
        if "policy" in self.tables:
            pi = self.tables["policy"].exp()
            total[:, :size] -= p.functionals.reward * (torch.diag_embed(pi) - pi.unsqueeze(-1) * pi.unsqueeze(-2))
        return total

    def jacobian(self) -> Tensor:
        """J = ∂ log π/∂θ, shape (P, V, D): I − 1πᵀ on the policy's logits, or on r/γ where r is all there is."""
        eye = torch.eye(self.problem.log_ref.shape[-1], dtype=torch.float64)
        if "policy" not in self.tables:
            scaled = self.tables["student"] / self.problem.gamma
            return (eye - torch.softmax(scaled, -1).unsqueeze(-2)) / self.problem.gamma
        tangent = eye - self.tables["policy"].exp().unsqueeze(-2)
        return torch.cat([tangent, *(torch.zeros_like(tangent) for _ in self.problem.variables[1:])], -1)

    @cached_property
    def _hessians(self) -> tuple[Tensor, Tensor]:
        theta = torch.cat([self.tables[v] for v in self.problem.variables], -1)
        full = self.problem.evaluate(theta)[2]
        if not bool(self.problem.ridge.any()):
            return full, full
        bare = replace(self.problem, ridge=torch.zeros_like(self.problem.ridge))
        return full, bare.evaluate(theta)[2]

    def inverse(self) -> Tensor:
        """H⁺, shape (P, D, D)."""
        values, vectors = torch.linalg.eigh(self._hessians[0])
        keep = values > RANK * values.abs().amax(-1, keepdim=True)
        return (vectors * torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0).unsqueeze(-2)) @ vectors.mT

    def flat(self) -> Tensor:
        """Directions in which the objective without its ridge does not curve upwards: columns, zero elsewhere."""
        values, vectors = torch.linalg.eigh(self._hessians[1])
        return vectors * (values <= FLAT * values.abs().amax(-1, keepdim=True)).unsqueeze(-2)


def _ends(name: str, table: Tensor) -> dict[str, Tensor]:
    """A table (P, V) as the inputs of `Pair` at every pair's two responses."""
    return {f"{name}_chosen": table.unsqueeze(-1), f"{name}_rejected": table.unsqueeze(-2)}


def _seen(table: Tensor, problem: Problem) -> Tensor:
    """The table, and 0 where a pair was never seen and its derivative is not finite."""
    unseen = (problem.frequencies[:, 0] == 0) & ~torch.isfinite(table)
    return torch.where(unseen, table.new_zeros(()), table)


def _sandwich(final: _Stage, first: _Stage | None = None) -> Sandwich:
    jacobian, inverse = final.jacobian(), final.inverse()
    moved = torch.linalg.matrix_norm(jacobian @ final.flat())
    reach = -jacobian @ inverse
    # The map acts on scores in log π; (I − π1ᵀ) turns them into scores in the logits.
    size = reach.shape[-1]
    change = final.to_parameters(torch.eye(size, dtype=torch.float64).expand(len(reach), size, size))
    channels, maps = final.channels(), [reach @ change]
    if first is not None:
        through = reach @ final.cross()
        lost = torch.linalg.matrix_norm(through @ first.flat()) / torch.linalg.matrix_norm(through).clamp_min(1e-300)
        moved = torch.maximum(moved, lost)
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

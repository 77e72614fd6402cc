"""The sparse path: one data set as a list of labelled pairs, solved by truncated Newton."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from theory.instances.tabular import Array
from theory.objectives import Objective
from theory.sampling.edges import Edges
from theory.solvers.derivatives import pair_derivatives
from theory.solvers.functionals import Functionals
from theory.solvers.newton import GRADIENT, LARGEST_DAMPING, NOISE
from theory.solvers.pairloss import PairLoss, trained

FIRST_DAMPING = 1e-4
# Conjugate-gradient steps within one Newton step; the outer iteration corrects what they leave.
CG_LIMIT = 300


class Linearised(Protocol):
    """A smooth function near one point: value, gradient, and the Hessian as an operator."""

    value: float
    values: Array
    gradient: Array
    diagonal: Array

    def product(self, direction: Array) -> Array: ...


@dataclass(frozen=True)
class EdgeProblem:
    """One objective on one data set whose table of pairs is too large to hold.

    The parameters are every context's logits, then (if trained) the student's rewards, as one
    vector of (variables · X · V). Each context's terms are divided by its n_x, as on the dense
    path, so that the two give the same numbers.

    Attributes:
        hyper: numbers by name.
        log_ref, reward: shape (X, V).
        ridge: precision over n_x, shape (X, 1).
        scale, offset: of the affine implicit reward k·log π + b; a number and (X, V).
    """

    objective: Objective
    gamma: float
    hyper: dict[str, float]
    edges: Edges
    log_ref: Tensor
    ridge: Tensor
    reward: Tensor | None = None
    tied: bool = False
    scale: float = 1.0
    offset: Tensor | None = None

    @cached_property
    def functionals(self) -> Functionals:
        """The four policy functionals, coefficients of shape (1, 1)."""
        columns = {name: torch.full((1,), value, dtype=torch.float64) for name, value in self.hyper.items()}
        return Functionals.of(self.objective.coefficients(gamma=self.gamma, **columns))

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """What is trained: the policy, the student's reward head, or both."""
        return trained(self.objective, regularised=not self.functionals.zero, tied=self.tied)

    def tables(self, theta: Array) -> dict[str, Tensor]:
        """Each variable as a table (X, V): normalised log-probabilities, or rewards."""
        parts = torch.from_numpy(theta).reshape(len(self.variables), *self.log_ref.shape)
        found = dict(zip(self.variables, parts, strict=True))
        return {name: torch.log_softmax(t, -1) if name == "policy" else t for name, t in found.items()}

    def start(self, log_policy: Tensor) -> Array:
        """Parameters of a policy of shape (X, V), students at zero."""
        parts = [log_policy if v == "policy" else torch.zeros_like(log_policy) for v in self.variables]
        return torch.cat([part.flatten() for part in parts]).numpy()

    def at(self, theta: Array) -> Linearised:
        """The objective near ``theta``."""
        return _Point(self, self.tables(theta))

    def shortened(self, step: Array) -> Array:
        """The step, cut to the longest move of a logit that the functionals allow."""
        longest = self.functionals.longest_step
        return step if np.isinf(longest) else step / max(1.0, float(np.abs(step[: self.log_ref.numel()]).max()) / longest)

    @cached_property
    def ends(self) -> dict[str, Tensor]:
        """Flat index into a table of each edge's two responses."""
        base = self.edges.context * self.edges.vocab
        sides = {"chosen": self.edges.chosen, "rejected": self.edges.rejected}
        return {side: torch.from_numpy(base + index) for side, index in sides.items()}

    @cached_property
    def weight(self) -> Tensor:
        """Each edge's count over its context's n_x."""
        return torch.from_numpy(self.edges.count / np.maximum(self.edges.totals, 1.0)[self.edges.context])

    @cached_property
    def loss(self) -> PairLoss:
        """ℓ on the edges, as a function of what is trained."""
        one = torch.ones(1, dtype=torch.float64)
        fixed = {"length_chosen": one, "length_rejected": one}
        for name, table in (("ref_logp", self.log_ref), ("reward", self.reward)):
            if table is not None:
                fixed |= {f"{name}_{side}": table.flatten()[index] for side, index in self.ends.items()}
        return PairLoss(self.objective, self.gamma, dict(self.hyper), fixed, self.tied, self.variables)


class _Point:
    """The objective linearised at one set of tables."""

    def __init__(self, problem: EdgeProblem, tables: dict[str, Tensor]):
        self.problem, self.tables = problem, tables
        self.shape = tuple(problem.log_ref.shape)
        self.cells = problem.log_ref.numel()
        self.values = np.zeros(self.shape[0])  # each context's
        self.gradient = np.zeros(self.cells * len(problem.variables))
        self.pairs = csr_matrix((self.gradient.size, self.gradient.size))
        if problem.objective.has_loss:
            self._add_pairs()
        self.diagonal = self.pairs.diagonal()
        policy = tables.get("policy")
        self.p = None if policy is None else policy.exp().numpy()
        self.total = np.zeros((self.shape[0], 1))
        if self.p is not None:
            self._to_logits(self.p)
        self._add_functionals()
        self._add_ridge()
        self.value = float(self.values.sum())

    def _add_pairs(self) -> None:
        problem, loss = self.problem, self.problem.loss
        ends = problem.ends
        values = {side: {v: t.flatten()[index] for v, t in self.tables.items()} for side, index in ends.items()}
        found = pair_derivatives(loss, loss.inputs(values["chosen"], values["rejected"]))
        weight = problem.weight
        self.values += np.bincount(problem.edges.context, (weight * found.value).numpy(), minlength=self.shape[0])
        rows, columns, data = [], [], []
        sources = [
            (name, (ends[side].numpy() + self.cells * k).astype(np.int32), sign)
            for k, v in enumerate(problem.variables)
            for name, side, sign in loss.sources(v)
        ]
        for name, index, sign in sources:
            slope = (weight * found.gradient[name]).numpy() * sign
            self.gradient += np.bincount(index, slope, minlength=self.gradient.size)
            for other, column, other_sign in sources:
                rows.append(index)
                columns.append(column)
                data.append((weight * found.hessian[name, other]).numpy() * (sign * other_sign))
        size = self.gradient.size
        entries = np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))
        del data, rows, columns, found
        self.pairs = coo_matrix(entries, shape=(size, size)).tocsr()

    def _policy(self, vector: Array) -> Array:
        """A view of the policy's part, shape (X, V)."""
        return vector[: self.cells].reshape(self.shape)

    def _to_logits(self, p: Array) -> None:
        slope = self._policy(self.gradient)
        self.total = slope.sum(1, keepdims=True)
        slope -= p * self.total

    def _add_functionals(self) -> None:
        problem = self.problem
        self.g: Array | None = None
        if self.p is None or problem.functionals.zero:
            return
        arguments = (self.tables["policy"], problem.log_ref, problem.reward)
        self.values += problem.functionals.value(*arguments).numpy()
        gradient = problem.functionals.gradient(*arguments).numpy()
        f = problem.functionals
        self.curvature = float(f.entropy + f.kl + f.forward_kl)
        self.g = gradient - float(f.forward_kl) * (self.p - problem.log_ref.exp().numpy())
        self._policy(self.gradient)[...] += gradient
        self._policy(self.diagonal)[...] += self.curvature * self.p * (1 - self.p)

    def _add_ridge(self) -> None:
        self.ridge = {v: self.problem.ridge.numpy() * (self.problem.scale**2 if v == "policy" else 1.0) for v in self.tables}
        for k, (v, table) in enumerate(self.tables.items()):
            shifted = table if v != "policy" or self.problem.offset is None else table + self.problem.offset / self.problem.scale
            centred = (shifted - shifted.mean(-1, keepdim=True)).numpy()
            part = slice(k * self.cells, (k + 1) * self.cells)
            self.values += (self.ridge[v] * centred**2).sum(1) / 2
            self.gradient[part] += (self.ridge[v] * centred).ravel()
            self.diagonal[part] += np.broadcast_to(self.ridge[v], self.shape).ravel()

    def product(self, direction: Array) -> Array:
        """The Hessian in the parameters times a direction."""
        inner = direction.copy()
        p = self.p
        if p is not None:
            v = self._policy(direction)
            mean = (p * v).sum(1, keepdims=True)
            self._policy(inner)[...] -= mean
        result: Array = np.asarray(self.pairs @ inner)
        if p is not None:
            part = self._policy(result)
            part -= p * part.sum(1, keepdims=True)
            part -= self.total * p * (v - mean)
            if self.g is not None:
                part += self.g * (v - mean) + self.curvature * p * (v - mean) - p * (self.g * v).sum(1, keepdims=True)
        for k, ridge in enumerate(self.ridge.values()):
            block = slice(k * self.cells, (k + 1) * self.cells)
            v = direction[block].reshape(self.shape)
            result[block] += (ridge * (v - v.mean(1, keepdims=True))).ravel()
        return result


@dataclass(frozen=True)
class SparseMinimum:
    """Where truncated Newton ended: parameters, each context's objective, gradient max-norm, steps used."""

    theta: Array
    values: Array
    gradient_norm: float
    iterations: int


def truncated_newton(problem: EdgeProblem, start: Array, *, limit: int = 200) -> SparseMinimum:
    """Minimise by Newton steps solved with Jacobi-preconditioned conjugate gradients, damped as `newton`."""
    theta, point, damping = start, problem.at(start), 0.0
    for iteration in range(1, limit + 1):  # noqa: B007 (the count is part of the answer)
        norm = float(np.abs(point.gradient).max())
        if norm <= GRADIENT or damping > LARGEST_DAMPING or not np.isfinite(norm):
            break
        step = problem.shortened(_step(point, damping, norm))
        decrement = -float(point.gradient @ step) / 2
        if decrement > 0:
            trial = problem.at(theta + step)
            falls = np.isfinite(trial.value) and trial.value <= point.value - 1e-4 * decrement
            level = decrement <= NOISE * (1 + abs(point.value)) and np.abs(trial.gradient).max() < norm
            if falls or level:
                theta, point, damping = theta + step, trial, damping / 10 if damping > FIRST_DAMPING / 10 else 0.0
                continue
        damping = max(damping * 10, FIRST_DAMPING)
    return SparseMinimum(theta, point.values, float(np.abs(point.gradient).max()), iteration)


def _step(point: Linearised, damping: float, norm: float) -> Array:
    """−(H + μ·scale)⁻¹g, approximately; tighter as the gradient falls, for quadratic convergence."""
    size = point.gradient.size
    scale = max(float(np.abs(point.diagonal).max()), 1e-300)
    diagonal = np.maximum(point.diagonal, scale * 1e-12) + damping * scale

    def multiply(vector: Array) -> Array:
        return point.product(vector) + damping * scale * vector

    hessian = LinearOperator((size, size), matvec=multiply, dtype=np.float64)
    jacobi = LinearOperator((size, size), matvec=lambda vector: vector / diagonal, dtype=np.float64)
    step, _ = cg(hessian, -point.gradient, rtol=min(0.1, max(norm**0.5, 1e-4)), maxiter=CG_LIMIT, M=jacobi)
    return step

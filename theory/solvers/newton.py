"""Damped Newton steps on a whole batch of problems at once, with a certificate for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

# A solution is certified when no component of the gradient exceeds this.
CERTIFIED = 1e-8
# Newton goes on until both are reached, which quadratic convergence makes nearly free.
GRADIENT = 1e-10
DECREMENT = 1e-16
FIRST_DAMPING = 1e-3
LARGEST_DAMPING = 1e12
NOISE = 1e-14
# Keeps the matrix of a context without data (H = 0) factorisable.
SMALLEST_SCALE = 1e-8
# Relative size of the diagonal added always, so that directions the data leave flat do not drift.
FLOOR = 1e-11


class Smooth(Protocol):
    """What `newton` minimises: S independent smooth functions of D parameters each."""

    @property
    def size(self) -> int: ...

    @property
    def gauge(self) -> Tensor: ...

    def evaluate(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...

    def take(self, index: Tensor) -> Self: ...

    def excess(self, step: Tensor) -> Tensor:
        """How many times too long each step is for the quadratic model, shape (S,); at most 1 if it is not."""
        ...


@dataclass
class Minimum:
    """Where the iteration ended.

    Attributes:
        theta: parameters, shape (S, D).
        value: objective, shape (S,).
        gradient_norm: max-norm of the gradient, shape (S,).
        iterations: evaluations used, shape (S,).
        curvature: smallest Cholesky pivot was positive there (a strict local minimum up to the
            gauge), shape (S,) bool.
    """

    theta: Tensor
    value: Tensor
    gradient_norm: Tensor
    iterations: Tensor
    curvature: Tensor

    @property
    def certified(self) -> Tensor:
        """Whether the gradient is small enough for a solution, shape (S,)."""
        return self.gradient_norm <= CERTIFIED


def newton(problem: Smooth, start: Tensor, *, limit: int = 200) -> Minimum:
    """Minimise every problem from its row of ``start`` by Levenberg-damped Newton steps.

    A step solves (H + μ·scale·I + gauge) d = −g and is kept if the objective falls; μ grows
    tenfold on refusal or when the matrix is not positive definite, and shrinks on success, so
    that convex problems end in pure Newton steps. A step that the problem calls too long is
    shortened first. Converged problems leave the batch.
    """
    size = problem.size
    best = Minimum(
        start.clone(),
        start.new_zeros(size),
        start.new_full((size,), float("inf")),
        torch.zeros(size, dtype=torch.long),
        torch.zeros(size, dtype=torch.bool),
    )
    active = torch.arange(size)
    state = _State.at(problem, start)
    for iteration in range(1, limit + 1):
        step = state.step(problem.gauge)
        norm = state.gradient.abs().amax(-1)
        # With damping on, the full step did not improve: the gradient is all there is to gain.
        done = step.definite & (norm <= GRADIENT) & ((step.decrement <= DECREMENT) | (state.damping > 0))
        done |= ~torch.isfinite(norm) | (state.damping >= LARGEST_DAMPING)
        _record(best, active, state, norm, iteration, step.definite)
        if bool(done.all()):
            break
        if done.sum() * 4 >= len(done):
            keep = (~done).nonzero().squeeze(-1)
            active, problem, state, step = active[keep], problem.take(keep), state.take(keep), step.take(keep)
        step = step.shortened(problem.excess(step.direction))
        state = state.advance(_State.at(problem, state.theta + step.direction), step)
    return best


def _record(best: Minimum, active: Tensor, state: _State, norm: Tensor, iteration: int, definite: Tensor) -> None:
    best.theta[active], best.value[active] = state.theta, state.value
    best.gradient_norm[active], best.iterations[active] = norm, iteration
    best.curvature[active] = definite


@dataclass
class _Step:
    """A proposed step of every problem.

    Attributes:
        direction: shape (S, D).
        definite: its matrix was positive definite, shape (S,).
        decrement: −gᵀd/2, shape (S,).
        gentle: the damping that would about halve it, shape (S,); tried first if it is refused.
    """

    direction: Tensor
    definite: Tensor
    decrement: Tensor
    gentle: Tensor

    def take(self, index: Tensor) -> _Step:
        return _Step(*(part[index] for part in vars(self).values()))

    def shortened(self, excess: Tensor) -> _Step:
        """The step divided by ``excess`` where that exceeds 1."""
        shrink = excess.clamp_min(1.0)
        return replace(self, direction=self.direction / shrink.unsqueeze(-1), decrement=self.decrement / shrink)


@dataclass
class _State:
    theta: Tensor
    value: Tensor
    gradient: Tensor
    hessian: Tensor
    damping: Tensor

    @classmethod
    def at(cls, problem: Smooth, theta: Tensor) -> _State:
        value, gradient, hessian = problem.evaluate(theta)
        return cls(theta, value, gradient, hessian, torch.zeros_like(value))

    def take(self, index: Tensor) -> _State:
        return _State(*(part[index] for part in vars(self).values()))

    def step(self, gauge: Tensor) -> _Step:
        """The damped Newton step."""
        diagonal = self.hessian.diagonal(dim1=-2, dim2=-1).abs()
        scale = diagonal.amax(-1).clamp_min(SMALLEST_SCALE)
        matrix = torch.addcmul(self.hessian, scale[:, None, None], gauge)
        matrix.diagonal(dim1=-2, dim2=-1).add_(((self.damping + FLOOR) * scale).unsqueeze(-1))
        factor, info = torch.linalg.cholesky_ex(matrix)
        definite = (info == 0) & torch.isfinite(self.value)
        direction = -torch.cholesky_solve(self.gradient.unsqueeze(-1), factor).squeeze(-1)
        direction = torch.where(definite.unsqueeze(-1), direction, torch.zeros_like(direction))
        longest = direction.abs().amax(-1) * scale
        gentle = torch.where(longest > 0, self.gradient.abs().amax(-1) / longest, FIRST_DAMPING).clamp_max(FIRST_DAMPING)
        return _Step(direction, definite, -(self.gradient * direction).sum(-1) / 2, gentle)

    def advance(self, trial: _State, step: _Step) -> _State:
        """The trial where it improved (with less damping), this state where it did not (with more)."""
        noise = NOISE * (1 + self.value.abs())
        falls = trial.value <= self.value - 1e-4 * step.decrement
        smaller = trial.gradient.abs().amax(-1) <= self.gradient.abs().amax(-1)
        level = (trial.value <= self.value + noise) & smaller & (step.decrement <= noise)
        accept = step.definite & torch.isfinite(trial.value) & (falls | level)
        eased = torch.where(self.damping > FIRST_DAMPING / 10, self.damping / 10, torch.zeros_like(self.damping))
        if bool(accept.all()):
            return replace(trial, damping=eased)
        raised = torch.where(self.damping == 0, step.gentle, self.damping * 10)
        pairs = zip(vars(trial).values(), vars(self).values(), strict=True)
        theta, value, gradient, hessian, _ = (_where(accept, new, old) for new, old in pairs)
        return _State(theta, value, gradient, hessian, torch.where(accept, eased, raised))


def _where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(mask.reshape(-1, *(1,) * (new.dim() - 1)), new, old)

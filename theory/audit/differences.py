"""Whether an objective's derivative is that of its value, by central differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from theory.audit.subject import Subject
from theory.objectives import Pair
from theory.sampling import population
from theory.simulation import make_task
from theory.solvers.derivatives import pair_derivatives
from theory.solvers.problem import Problem
from theory.solvers.tabletask import TableTask

# A derivative this close to that of its value is exact.
AGREES = 1e-6
# Steps of the difference; a kink spoils the longer one more often.
STEPS = (1e-4, 1e-6)
OFFSETS = (-2.0, -1.0, 1.0, 2.0)


@dataclass(frozen=True)
class Agreement:
    """Largest error of a derivative against a five-point central difference, over the larger of it and the value.

    Attributes:
        pairs: of ℓ in each trained input, at random pairs; None without a pair loss.
        objective: of the whole objective in its parameters, along random directions on the instance.
    """

    pairs: float | None
    objective: float

    @property
    def largest(self) -> float:
        """The larger of the two."""
        return max(self.objective, self.pairs or 0.0)


def agreement(subject: Subject, seed: int = 0) -> Agreement:
    """Compare autograd with differences of the value."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(6,)))
    return Agreement(_pairs_error(subject, rng) if subject.objective.has_loss else None, _objective_error(subject, rng))


def _error(function: Callable[[float], Tensor], derivative: Tensor, value: Tensor) -> float:
    """The largest error of ``derivative`` at 0 against f' from f at −2h, −h, h, 2h, by the better of two steps."""
    scale = torch.maximum(derivative.abs(), value.abs()).clamp_min(1e-300)
    errors = []
    for step in STEPS:
        far_low, low, high, far_high = (function(k * step) for k in OFFSETS)
        errors.append((derivative - (far_low - 8 * low + 8 * high - far_high) / (12 * step)).abs() / scale)
    best = torch.stack(errors).amin(0)[torch.isfinite(value)]
    return float(best.max()) if best.numel() else math.nan


def _pairs_error(subject: Subject, rng: np.random.Generator, pairs: int = 256) -> float:
    objective, gamma = subject.objective, subject.instance.gamma
    shape = (objective.ensemble, pairs) if objective.ensemble > 1 else (pairs,)
    level = -np.exp(rng.uniform(math.log(0.1), math.log(100), pairs))
    inputs = {}
    for name in Pair.FIELDS:
        numbers = rng.standard_normal(shape if name.startswith("reward") else (pairs,))
        if "logp" in name:  # within some nats of a common level, so that ratios do not swamp the last digits
            numbers = np.minimum(level + 2 * numbers, -0.1)
        inputs[name] = torch.from_numpy(np.ones(pairs) if "length" in name else numbers)

    def loss(**changed: Tensor) -> Tensor:
        found = objective.terms(Pair(**inputs).replace(**changed), gamma=gamma, **subject.defaults).loss
        assert found is not None
        return found if objective.ensemble == 1 else found.sum(0)

    errors = []
    for name in sorted(set(Pair.FIELDS) & objective.inputs):
        if name.startswith(("logp", "student_reward")):
            found = pair_derivatives(loss, {name: inputs[name]})
            errors.append(_error(partial(_moved, loss, name, inputs[name]), found.gradient[name], found.value))
    return max(errors, default=0.0)


def _objective_error(subject: Subject, rng: np.random.Generator, points: int = 8) -> float:
    task = make_task(subject.instance, population(subject.instance), subject.settings)
    assert isinstance(task, TableTask)
    hyper = {name: torch.tensor([value], dtype=torch.float64) for name, value in subject.defaults.items()}
    problem: Problem = task.problem(subject.objective, hyper, task.rewards(subject.objective)[0])
    shape = (problem.size, sum(problem.sizes))
    errors = []
    for _ in range(points):
        theta, direction = (torch.from_numpy(rng.standard_normal(shape)) for _ in range(2))
        value, gradient, _ = problem.evaluate(theta)
        along = partial(_along, problem, theta, direction)
        errors.append(_error(along, (gradient * direction).sum(-1), value))
    return max(errors)


def _moved(loss: Callable[..., Tensor], name: str, at: Tensor, t: float) -> Tensor:
    return loss(**{name: at + t})


def _along(problem: Problem, theta: Tensor, direction: Tensor, t: float) -> Tensor:
    return problem.evaluate(theta + t * direction)[0]

"""Fitting over the values of the tuned hyperparameter, and choosing one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from theory.errors import UserError
from theory.objectives import Objective
from theory.objectives.registry import Hyperparameter
from theory.solvers.task import Fit, Task

GRID_LOW, GRID_HIGH, GRID_SIZE = 1e-4, 1e2, 61
# Share of the comparisons that the validation rule holds out.
HELD_OUT = 0.2
# Parabolic steps in log β after the grid; three leave an error far below any floor.
REFINEMENTS = 3

# Scores a fit of every group of a data set, shape (S,); smaller is better.
Criterion = Callable[[list[Fit]], Tensor]


@dataclass
class Chosen:
    """The fits at the chosen hyperparameters, one for each group of contexts.

    Attributes:
        hyper: every hyperparameter, shape (S,).
        fits: one `Fit` a task.
        kind: how the solution is certified: ``closed-form``, ``convex`` or ``local``.
        starts, agreeing: starting points tried, and how many reached the same objective (S,).
    """

    hyper: dict[str, Tensor]
    fits: list[Fit]
    kind: str
    starts: int
    agreeing: Tensor


def grid(parameter: Hyperparameter) -> list[float]:
    """The 61 values searched, descending: log-spaced in [1e-4, 1e2], and 0 if it is allowed."""
    about = parameter.about
    with_zero = about.low == 0 and not about.open_low
    values = np.geomspace(GRID_HIGH, GRID_LOW, GRID_SIZE - with_zero).tolist() + [0.0] * with_zero
    inside = [v for v in values if about.low <= v <= about.high and not (about.open_low and v <= about.low)]
    if not inside:
        raise UserError(parameter.option, None, f"has no value in [1e-4, 1e2] within {parameter.range}: give one")
    return inside


def held_out_loss(tasks: Sequence[Task]) -> Criterion:
    """What a practitioner can score: the mean preference log-loss on held-out comparisons."""
    size = torch.stack([task.comparisons() for task in tasks]).sum(0).clamp_min(1.0)

    def score(fits: list[Fit]) -> Tensor:
        return torch.stack([task.log_loss(fit.logp) for task, fit in zip(tasks, fits, strict=True)]).sum(0) / size

    return score


@dataclass
class Search:
    """Fits of one objective to S data sets whose contexts are divided into groups (tasks)."""

    objective: Objective
    tasks: Sequence[Task]

    @property
    def seeds(self) -> int:
        """S."""
        return self.tasks[0].seeds

    def fit(self, hyper: dict[str, Tensor], starts: Sequence[Tensor], *, certify: bool = True) -> list[Fit]:
        """The minimiser at given hyperparameters; for an ensemble, the member with the least total loss."""
        certify = certify or self.objective.ensemble > 1
        rewards = [task.rewards(self.objective) for task in self.tasks]
        best: list[Fit] = []
        for member in range(len(rewards[0])):
            fits = [
                task.minimise(self.objective, hyper, reward[member], start, certify=certify)
                for task, reward, start in zip(self.tasks, rewards, starts, strict=True)
            ]
            if best:
                better = self.total(fits) < self.total(best)
                fits = [new.where(better, old) for new, old in zip(fits, best, strict=True)]
            best = fits
        return best

    def total(self, fits: list[Fit]) -> Tensor:
        """The objective over all groups, shape (S,)."""
        return torch.stack([fit.value * task.share for fit, task in zip(fits, self.tasks, strict=True)]).sum(0)

    def references(self) -> list[Tensor]:
        """The reference policy as a starting point of every task."""
        return [task.log_ref for task in self.tasks]

    def choose(self, fixed: Mapping[str, float | Tensor], criterion: Criterion) -> tuple[dict[str, Tensor], list[Fit]]:
        """The value of the tuned hyperparameter with the least criterion: the grid, then parabolas."""
        parameter = self.objective.tuned
        assert parameter is not None
        path = _Path(self, self.full(fixed), parameter.name, criterion)
        for value in grid(parameter):
            path.visit(torch.full((self.seeds,), value, dtype=torch.float64))
        path.refine()
        return {**path.hyper, parameter.name: path.best_value}, path.best

    def validated(self, fixed: dict[str, float]) -> Chosen:
        """The value with the least held-out loss after fitting the rest, then refitted to all the data."""
        rng = np.random.default_rng(np.random.SeedSequence(self.tasks[0].options.seed, spawn_key=(3,)))
        parts = [task.divided(HELD_OUT, rng) for task in self.tasks]
        for (train, _), task in zip(parts, self.tasks, strict=True):
            train.share = task.share
        training = Search(self.objective, [train for train, _ in parts])
        hyper, near = training.choose(fixed, held_out_loss([rest for _, rest in parts]))
        return self.finish(hyper, near)

    def finish(self, hyper: dict[str, Tensor], near: list[Fit] | None = None) -> Chosen:
        """Solve at ``hyper`` with a certificate; a problem not known to be convex gets several starts."""
        kind = self._kind(hyper)
        starts = [[fit.logp for fit in near]] if near else []
        if kind == "local":
            starts += [[torch.zeros_like(r) for r in self.references()], self._scattered()]
        if kind == "local" or not starts:
            starts += [self.references()]
        runs = [self.fit(hyper, start) for start in starts]
        best = runs[0]
        for run in runs[1:]:
            better = self.total(run) < self.total(best)
            best = [new.where(better, old) for new, old in zip(run, best, strict=True)]
        least = self.total(best)
        same = torch.stack([(self.total(run) - least).abs() <= 1e-10 * (1 + least.abs()) for run in runs]).sum(0)
        return Chosen(hyper, best, kind, len(runs), same)

    def _scattered(self) -> list[Tensor]:
        """A start away from both the reference and the uniform policy: normal logits, always the same."""
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(r.shape[-2:], dtype=r.dtype, generator=generator).expand(r.shape) for r in self.references()]

    def full(self, values: Mapping[str, float | Tensor]) -> dict[str, Tensor]:
        """Hyperparameters as tensors of shape (S,); a tensor gives each data set a value of its own."""
        return {name: torch.as_tensor(v, dtype=torch.float64).expand(self.seeds) for name, v in values.items()}

    def at(self, values: Mapping[str, float | Tensor]) -> Chosen:
        """The certified solution at fixed hyperparameters."""
        return self.finish(self.full(values))

    def _kind(self, hyper: dict[str, Tensor]) -> str:
        if all(task.has_closed_form(self.objective, hyper) for task in self.tasks):
            return "closed-form"
        terms = self.objective.coefficients(gamma=self.tasks[0].world.gamma, **hyper)
        curved = any(bool(torch.as_tensor(c).any()) for c in (terms.reward, terms.entropy, terms.kl))
        return "convex" if self.objective.convex and not curved else "local"


class _Path:
    """A walk over values of one hyperparameter, each solved from its neighbour's solution."""

    def __init__(self, search: Search, hyper: dict[str, Tensor], name: str, criterion: Criterion):
        self.search, self.hyper, self.name, self.criterion = search, hyper, name, criterion
        self.values: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.best: list[Fit] = []
        self.best_value = self.best_score = torch.empty(0)
        self.latest: list[Fit] = []
        self.before: list[Fit] = []

    def _starts(self) -> list[Tensor]:
        """Where the last two solutions point (a secant predictor), or the reference at first."""
        if self.before:
            return [2 * fit.logp - old.logp for fit, old in zip(self.latest, self.before, strict=True)]
        return [fit.logp for fit in self.latest] or self.search.references()

    def visit(self, value: Tensor) -> Tensor:
        """Fit at ``value`` (S,) and keep what is better; returns the scores (S,)."""
        fits = self.search.fit({**self.hyper, self.name: value}, self._starts(), certify=False)
        self.before, self.latest = self.latest, fits
        score = self.criterion(self.latest)
        score = torch.where(torch.isnan(score), torch.inf, score)
        if not self.best:
            self.best, self.best_value, self.best_score = self.latest, value, score
        else:
            better = score < self.best_score
            self.best = [new.where(better, old) for new, old in zip(self.latest, self.best, strict=True)]
            self.best_value = torch.where(better, value, self.best_value)
            self.best_score = torch.where(better, score, self.best_score)
        self.values.append(value)
        self.scores.append(score)
        return score

    def refine(self) -> None:
        """Parabolic steps in log β inside the bracket of the best grid point."""
        for points in self._brackets():
            vertex = _vertex(points)
            if torch.equal(vertex, points.middle):
                return
            self.latest, self.before = self.best, []
            score = self.visit(vertex.exp())
            points.update(vertex, score)

    def _brackets(self) -> Iterator[_Bracket]:
        values, scores = torch.stack(self.values).log(), torch.stack(self.scores)
        centre = scores.argmin(0).clamp(1, len(values) - 2) if len(values) > 2 else None
        if centre is None:
            return
        pick = [t.gather(0, (centre + o).unsqueeze(0))[0] for t in (values, scores) for o in (1, 0, -1)]
        bracket = _Bracket(*pick)
        for _ in range(REFINEMENTS):
            yield bracket


@dataclass
class _Bracket:
    """Three values of log β around a minimum, low to high, and their scores."""

    low: Tensor
    middle: Tensor
    high: Tensor
    score_low: Tensor
    score_middle: Tensor
    score_high: Tensor

    def update(self, x: Tensor, score: Tensor) -> None:
        """Shrink the bracket around the better of the middle and ``x``."""
        better, right = score < self.score_middle, x > self.middle
        old = replace(self)
        self.low = torch.where(better & right, old.middle, torch.where(~better & ~right, x, old.low))
        self.score_low = torch.where(better & right, old.score_middle, torch.where(~better & ~right, score, old.score_low))
        self.high = torch.where(better & ~right, old.middle, torch.where(~better & right, x, old.high))
        self.score_high = torch.where(better & ~right, old.score_middle, torch.where(~better & right, score, old.score_high))
        self.middle = torch.where(better, x, old.middle)
        self.score_middle = torch.where(better, score, old.score_middle)


def _vertex(b: _Bracket) -> Tensor:
    """The parabola's minimum where it is inside the bracket, else the middle again."""
    left, right = b.middle - b.low, b.middle - b.high
    up, down = b.score_middle - b.score_high, b.score_middle - b.score_low
    vertex = b.middle - 0.5 * (left**2 * up - right**2 * down) / (left * up - right * down)
    inside = torch.isfinite(vertex) & (vertex > b.low) & (vertex < b.high)
    return torch.where(inside, vertex, b.middle)

"""A task whose table of pairs is too large to hold: one data set, truncated Newton on its edges."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from theory.objectives import Objective
from theory.objectives.reward import bradley_terry
from theory.sampling.edges import Edges, split_edges
from theory.solvers.closed import affine_reward
from theory.solvers.edges import EdgeProblem, truncated_newton
from theory.solvers.existence import WinGraph
from theory.solvers.options import Options
from theory.solvers.task import Fit, Task, World


class EdgeTask(Task):
    """Fits objectives to one data set of labelled pairs over a large vocabulary."""

    seeds = 1

    def __init__(self, data: Edges, world: World, options: Options):
        self.data, self.world, self.options = data, world, options

    def resampled(self, rng: np.random.Generator) -> EdgeTask:
        counts = np.zeros_like(self.data.count)
        order = np.argsort(self.data.context, kind="stable")
        bounds = np.searchsorted(self.data.context[order], np.arange(self.data.contexts + 1))
        for x, total in enumerate(self.data.totals):
            inside = order[bounds[x] : bounds[x + 1]]
            seen = self.data.count[inside]
            cells = np.append(seen, total - seen.sum())
            if total > 0:
                counts[inside] = rng.multinomial(int(total), cells / cells.sum())[:-1]
        return EdgeTask(replace(self.data, count=counts), self.world, self.options)

    def divided(self, held_out: float, rng: np.random.Generator) -> tuple[EdgeTask, EdgeTask]:
        train, rest = split_edges(self.data, held_out, rng)
        return EdgeTask(train, self.world, self.options), EdgeTask(rest, self.world, self.options)

    def log_loss(self, logp: Tensor) -> Tensor:
        reward = (self.world.gamma * logp[0]).flatten()
        base = self.data.context * self.data.vocab
        chosen, rejected = (reward[torch.from_numpy(base + side)] for side in (self.data.chosen, self.data.rejected))
        return (torch.from_numpy(self.data.count) * bradley_terry(chosen, rejected)).sum().reshape(1)

    def comparisons(self) -> Tensor:
        return torch.tensor([self.data.count.sum()])

    def graph(self) -> WinGraph:
        seen = self.data.count > 0
        base = self.data.context * self.data.vocab
        return WinGraph(self.data.contexts, self.data.vocab, (base + self.data.chosen)[seen], (base + self.data.rejected)[seen])

    def iterate(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, start: Tensor) -> Fit:
        problem = self._problem(objective, hyper, reward)
        found = truncated_newton(problem, problem.start(start[0]))
        return self._fit(problem, found.theta, found.values, found.gradient_norm, found.iterations)

    def certify(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, logp: Tensor) -> Fit:
        problem = self._problem(objective, hyper, reward)
        theta = problem.start(logp[0])
        point = problem.at(theta)
        return self._fit(problem, theta, point.values, float(np.abs(point.gradient).max()), 0)

    @cached_property
    def _ridge(self) -> Tensor:
        return torch.from_numpy(self.options.ridge / np.maximum(self.data.totals, 1.0)).unsqueeze(1)

    def _problem(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None) -> EdgeProblem:
        scale, offset = affine_reward(objective, self.world.gamma, hyper, self.world.log_ref)
        return EdgeProblem(
            objective,
            self.world.gamma,
            {name: float(value) for name, value in hyper.items()},
            self.data,
            self.world.log_ref,
            torch.zeros_like(self._ridge) if objective.label_free else self._ridge,
            None if reward is None else reward[0],
            self.options.tied and objective.reads("logp"),
            float(scale.flatten()[0]),
            offset,
        )

    def _fit(self, problem: EdgeProblem, theta: np.ndarray, values: np.ndarray, norm: float, iterations: int) -> Fit:
        tables = problem.tables(theta)
        student, policy = tables.get("student"), self.policy_of(tables)
        value = float(values @ self.data.totals) / max(float(self.data.totals.sum()), 1.0)
        total, gradient = (torch.tensor([v], dtype=torch.float64) for v in (value, norm))
        return Fit(policy[None], None if student is None else student[None], total, gradient, torch.tensor([iterations]))

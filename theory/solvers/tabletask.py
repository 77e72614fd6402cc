"""A task whose table of pairs is held in memory: many data sets at once, dense Newton."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from theory.objectives import Objective
from theory.objectives.reward import bradley_terry
from theory.sampling import WinCounts, bootstrap, split
from theory.solvers.drain import Drain
from theory.solvers.existence import Mask, WinGraph
from theory.solvers.newton import Minimum, newton
from theory.solvers.options import Options
from theory.solvers.problem import Problem
from theory.solvers.separation import separable
from theory.solvers.task import Fit, Task, World


class TableTask(Task):
    """Fits objectives to S data sets on one table of at most about 1,000 responses."""

    def __init__(self, data: WinCounts, world: World, options: Options):
        self.data, self.world, self.options = data, world, options
        self.seeds, self.contexts, self.vocab = data.wins.shape[:3]
        self.weights = torch.from_numpy(data.weights)

    def resampled(self, rng: np.random.Generator) -> TableTask:
        return TableTask(bootstrap(self.data, rng), self.world, self.options)

    def divided(self, held_out: float, rng: np.random.Generator) -> tuple[TableTask, TableTask]:
        if math.isinf(self.data.n):  # every part of the population is the population
            return self, self
        train, rest = split(self.data, held_out, rng)
        return TableTask(train, self.world, self.options), TableTask(rest, self.world, self.options)

    def log_loss(self, logp: Tensor) -> Tensor:
        reward = self.world.gamma * logp
        loss = bradley_terry(reward.unsqueeze(-1), reward.unsqueeze(-2))
        return (torch.from_numpy(self.data.wins) * loss).sum((-1, -2, -3))

    def comparisons(self) -> Tensor:
        return torch.from_numpy(self.data.wins.sum((-1, -2, -3)))

    def graph(self) -> WinGraph:
        return self._graph

    def unbounded(self, drain: Drain) -> Mask:
        return drain.unbounded(self.data.frequencies, self.log_ref)

    @cached_property
    def _graph(self) -> WinGraph:
        return WinGraph.of_table(self.data.wins.reshape(-1, self.vocab, self.vocab))

    def iterate(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, start: Tensor) -> Fit:
        problem = self.problem(objective, hyper, reward)
        guess = self.reward_guess if "student" in problem.variables and not problem.shared else None
        minimum = newton(problem, problem.start(_layout(start, problem.shared), guess))
        return self._fit(problem, minimum)

    def certify(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, logp: Tensor) -> Fit:
        problem = self.problem(objective, hyper, reward)
        theta = problem.start(_layout(logp, problem.shared))
        value, gradient, _ = problem.evaluate(theta)
        none = torch.zeros(problem.size, dtype=torch.long)
        return self._fit(problem, Minimum(theta, value, gradient.abs().amax(-1), none, none.bool()))

    def finite(self, objective: Objective, hyper: dict[str, Tensor]) -> Mask | None:
        """Whether a finite minimiser exists without the ridge, shape (S,), for log-linear classes too.

        None where it is not decided: a loss that depends on the level of the log-probabilities
        (`sft`, `drdo`, `oracle`) in a log-linear class.
        """
        classes = (self.world.reward_features, self.world.policy_features)
        if classes == (None, None):
            return np.asarray(~self.vanishing(objective, hyper).any((1, 2)))
        through = self.drain(objective, hyper).by_separation(self.seeds)
        if through is None:
            return None
        lost = [flags & self._separated(features) for flags, features in zip(through, classes, strict=True) if flags.any()]
        return ~np.any([np.zeros(self.seeds, dtype=bool), *lost], axis=0)

    def _separated(self, features: Tensor | None) -> Mask:
        """Which data sets are separable in a class, shape (S,)."""
        if features is None:
            return np.asarray(self.graph().drained.reshape(self.seeds, -1).any(1))
        phi = features.numpy()
        found = []
        for wins in self.data.wins:
            x, chosen, rejected = np.nonzero(wins)
            found.append(separable(phi[x, chosen] - phi[x, rejected]))
        return np.array(found)

    @cached_property
    def reward_guess(self) -> Tensor:
        """Rewards near the Bradley–Terry fit without iterating, shape (S·X, 1, V).

        Least squares of the empirical log-odds on reward differences, weighted by their inverse
        variances (minimum logit chi-square, Berkson 1944): within O(1/n) of the maximum-likelihood
        fit, so that Newton's method needs a step or two.
        """
        half = 0.0 if math.isinf(self.data.n) else 0.5
        won = torch.from_numpy(self.data.wins).flatten(0, 1) + half
        lost, log_won = won.mT, won.clamp_min(1e-300).log_()
        # The inverse variance of a log-odds, and 0 for a pair that was never compared.
        seen = won + lost
        precision = (won * lost).div_(seen.clamp_min(1e-300)).mul_(seen > 2 * half)
        degree = precision.sum(-1)
        scale = degree.amax(-1, keepdim=True).clamp_min(1e-300)
        # The constant added fixes the gauge; the rest of the diagonal, what was never compared.
        matrix = (scale / self.vocab).unsqueeze(-1) - precision
        matrix.diagonal(dim1=-2, dim2=-1).add_(degree + 1e-9 * scale)
        log_odds = (log_won - log_won.mT).mul_(precision)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        guess = torch.cholesky_solve(log_odds.sum(-1, keepdim=True), factor).squeeze(-1)
        usable = (failed == 0).unsqueeze(-1) & torch.isfinite(guess).all(-1, keepdim=True)
        return torch.where(usable, guess, torch.zeros_like(guess)).unsqueeze(1)

    @cached_property
    def _frequencies(self) -> Tensor:
        return torch.from_numpy(self.data.frequencies)

    @cached_property
    def _ridge(self) -> Tensor:
        if math.isinf(self.data.n):
            return torch.zeros(self.seeds, self.contexts, dtype=torch.float64)
        return torch.from_numpy(self.options.ridge / np.maximum(self.data.totals, 1.0))

    def problem(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None = None) -> Problem:
        """The batch of problems of one objective; ``hyper`` of shape (S,), ``reward`` (S, X, V)."""
        tied = self.options.tied and objective.reads("logp")
        policy = objective.reads("logp") or not objective.has_loss
        shared = (self.world.policy_features if policy else self.world.reward_features) is not None
        per_seed = {name: value.expand(self.seeds) for name, value in hyper.items()}
        if not shared:
            per_seed = {name: value.repeat_interleave(self.contexts) for name, value in per_seed.items()}
        # A label-free loss regresses on numbers that are bounded already.
        ridge = torch.zeros_like(self._ridge) if objective.label_free else self._ridge
        return Problem(
            objective,
            self.world.gamma,
            per_seed,
            _layout(self._frequencies, shared),
            _layout(self.weights if shared else torch.ones_like(self.weights), shared),
            _layout(ridge, shared),
            _layout(self.log_ref, shared),
            None if reward is None else _layout(reward, shared),
            tied,
            self.world.policy_features if shared else None,
            self.world.reward_features if shared else None,
        )

    def _fit(self, problem: Problem, minimum: Minimum) -> Fit:
        shape = (self.seeds, self.contexts, self.vocab)
        tables = {name: t.reshape(shape) for name, t in problem.tables(minimum.theta).items()}
        student, policy = tables.get("student"), self.policy_of(tables)
        value = minimum.value.reshape(self.seeds, -1)
        total = value.sum(-1) if problem.shared else (self.weights * value).sum(-1)
        norm, iterations = (t.reshape(self.seeds, -1).amax(-1) for t in (minimum.gradient_norm, minimum.iterations))
        return Fit(policy, student, total, norm, iterations)


def _layout(table: Tensor, shared: bool) -> Tensor:
    """(S, X, …) as it is when contexts share parameters, else each a problem of its own: (S·X, 1, …)."""
    return table if shared else table.flatten(0, 1).unsqueeze(1)

"""Data on one table of responses, and what can be fitted to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from theory.errors import UserError
from theory.objectives import Objective, make
from theory.objectives.reward import reward as bradley_terry_reward
from theory.solvers.closed import closed_form, closed_kind
from theory.solvers.drain import Drain, per_seed_flags
from theory.solvers.existence import Mask, WinGraph
from theory.solvers.options import Options

# The first stage of every two-stage method.
REWARD = make(bradley_terry_reward, convex=True)


@dataclass(frozen=True)
class World:
    """What is known about a table of responses besides the data; tensors in float64.

    Attributes:
        log_ref: log π_ref, shape (X, V).
        gamma: γ.
        true_reward: r* = γ log π*, shape (X, V), or None when no target is known.
        policy_features, reward_features: φ of a log-linear class, shape (X, V, d), or None.
    """

    log_ref: Tensor
    gamma: float
    true_reward: Tensor | None = None
    policy_features: Tensor | None = None
    reward_features: Tensor | None = None


@dataclass
class Fit:
    """Fitted policies, one a seed.

    Attributes:
        logp: log π̂, shape (S, X, V).
        student: fitted rewards of the student's head, shape (S, X, V), or None.
        value: objective, ridge included, shape (S,).
        gradient_norm: its max-norm over the contexts, shape (S,).
        iterations: the most that a context used, shape (S,).
    """

    logp: Tensor
    student: Tensor | None
    value: Tensor
    gradient_norm: Tensor
    iterations: Tensor

    def where(self, mask: Tensor, other: Fit) -> Fit:
        """This fit where ``mask`` (S,), the other elsewhere."""

        def pick(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else torch.where(mask.reshape(-1, *(1,) * (a.dim() - 1)), a, b)

        mine, theirs = vars(self), vars(other)
        return Fit(**{name: pick(mine[name], theirs[name]) for name in mine})  # type: ignore[arg-type]

    @property
    def reward(self) -> Tensor:
        """The student's reward, centred in each context."""
        assert self.student is not None
        return self.student - self.student.mean(-1, keepdim=True)


class Task(ABC):
    """S data sets on one table of responses; the reward fit is shared by every objective.

    Attributes:
        share: this table's share of the data, when contexts are divided among several tables.
    """

    seeds: int
    world: World
    options: Options
    share: float = 1.0

    @property
    def log_ref(self) -> Tensor:
        """log π_ref, shape (S, X, V)."""
        return self.world.log_ref.expand(self.seeds, -1, -1)

    @abstractmethod
    def iterate(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, start: Tensor) -> Fit:
        """The minimiser that Newton's method reaches from ``start`` (log-probabilities, (S, X, V)).

        A student's reward starts at `reward_guess`.
        """

    @abstractmethod
    def certify(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, logp: Tensor) -> Fit:
        """The objective and its gradient at a given policy."""

    @abstractmethod
    def resampled(self, rng: np.random.Generator) -> Task:
        """The task on bootstrap resamples of its data."""

    @abstractmethod
    def divided(self, held_out: float, rng: np.random.Generator) -> tuple[Task, Task]:
        """The task on a training part of its data, and on the held-out rest."""

    @abstractmethod
    def log_loss(self, logp: Tensor) -> Tensor:
        """Σ of −log σ(γ Δlogπ) over this task's comparisons, shape (S,): the preference model's own loss."""

    @abstractmethod
    def comparisons(self) -> Tensor:
        """Informative comparisons (y ≠ y') in each data set, shape (S,)."""

    @abstractmethod
    def graph(self) -> WinGraph:
        """Who beat whom, all S·X contexts."""

    def policy_of(self, tables: dict[str, Tensor]) -> Tensor:
        """The fitted log π, or the one that a reward alone induces, π ∝ exp(r/γ) (unified eq. 8)."""
        return tables["policy"] if "policy" in tables else torch.log_softmax(tables["student"] / self.world.gamma, -1)

    def drain(self, objective: Objective, hyper: dict[str, Tensor]) -> Drain:
        """The objective's structure at each data set's hyperparameters."""
        per_seed = {name: value.expand(self.seeds) for name, value in hyper.items()}
        return Drain(objective, per_seed, self.world.gamma, self.options)

    @cached_property
    def reward_fit(self) -> Fit:
        """The Bradley–Terry reward of each data set, fitted by the objective `reward`."""
        return self.iterate(REWARD, {}, None, self.log_ref)

    @cached_property
    def _bootstraps(self) -> list[Tensor]:
        return []

    def _bootstrap(self, member: int) -> Tensor:
        while len(self._bootstraps) <= member:
            key = (2, len(self._bootstraps))
            rng = np.random.default_rng(np.random.SeedSequence(self.options.seed, spawn_key=key))
            self._bootstraps.append(self.resampled(rng).reward_fit.reward)
        return self._bootstraps[member]

    def rewards(self, objective: Objective) -> list[Tensor | None]:
        """The fixed rewards that an objective needs: none, one, or an ensemble of bootstrap fits."""
        if not objective.needs_reward:
            return [None]
        if self.options.oracle == "true":
            if self.world.true_reward is None:
                raise UserError("--oracle", "true", "needs a known target; use learned")
            return [self.world.true_reward.expand(self.seeds, -1, -1)] * objective.ensemble
        if objective.ensemble == 1:
            return [self.reward_fit.reward]
        return [self._bootstrap(member) for member in range(objective.ensemble)]

    def minimise(
        self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, start: Tensor, *, certify: bool = True
    ) -> Fit:
        """The minimiser: in closed form if there is one, else the one that ``start`` leads to.

        Without ``certify`` a closed form's value and gradient are left unknown (NaN).
        """
        if not self.has_closed_form(objective, hyper):
            return self.iterate(objective, hyper, reward, start)
        learned = self.options.oracle == "learned" or reward is None
        estimate = self.reward_fit.reward if learned and self._uses_data(objective) else None
        logp = closed_form(objective, self.world.gamma, hyper, self.log_ref, reward, estimate)
        if not certify:
            unknown = torch.full((self.seeds,), torch.nan, dtype=torch.float64)
            return Fit(logp, None, unknown, unknown, torch.zeros(self.seeds, dtype=torch.long))
        fit = self.certify(objective, hyper, reward, logp)
        if estimate is not None:
            fit.iterations = self.reward_fit.iterations
        return fit

    def _uses_data(self, objective: Objective) -> bool:
        return objective.has_loss or objective.needs_reward

    def has_closed_form(self, objective: Objective, hyper: dict[str, Tensor]) -> bool:
        """Whether `minimise` needs no iteration of its own at these hyperparameters."""
        if self.world.policy_features is not None:
            return False
        kind = closed_kind(objective, self.world.gamma, hyper)
        # A Bradley–Terry policy is read off a reward fit, which must then be unrestricted too.
        return kind == "on-policy" or (kind == "bradley-terry" and self.world.reward_features is None)

    def undecided(self, objective: Objective, hyper: dict[str, Tensor]) -> Mask:
        """Data sets on which structure does not decide whether a finite minimiser exists, shape (S,)."""
        graph = self.graph()
        if graph.strongly_connected:
            return np.zeros(self.seeds, dtype=bool)
        return self.drain(objective, hyper).undecided(graph, self.seeds)

    def unbounded(self, drain: Drain) -> Mask:
        """Responses along whose flight the loss falls without bound, shape (S, X, V); not examined by default."""
        return np.zeros(tuple(self.log_ref.shape), dtype=bool)

    def vanishing(self, objective: Objective, hyper: dict[str, Tensor]) -> Mask:
        """Responses whose probability goes to 0 without the ridge, shape (S, X, V); see `existence`."""
        graph, drain = self.graph(), self.drain(objective, hyper)
        if graph.strongly_connected:
            found = np.zeros(tuple(self.log_ref.shape), dtype=bool)
        else:
            found = drain.of(graph, self.seeds).reshape(self.log_ref.shape)
        found |= self.unbounded(drain)
        terms = objective.coefficients(gamma=self.world.gamma, **drain.hyper)
        collapses = per_seed_flags(terms.reward, self.seeds)
        collapses = collapses & ~per_seed_flags(terms.entropy + terms.kl + terms.forward_kl, self.seeds)
        if collapses.any():
            (reward,) = self.rewards(objective)
            assert reward is not None
            found |= collapses[:, None, None] & (reward < reward.amax(-1, keepdim=True)).numpy()
        return found

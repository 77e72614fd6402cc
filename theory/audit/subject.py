"""What is audited: an objective, the worlds it is tried on, and its population minimisers there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theory.instances import Instance, random_instance
from theory.instances.tabular import Array
from theory.objectives import Objective
from theory.sampling import WinCounts, population
from theory.simulation import Settings, choose, distance_to_target, make_task
from theory.solvers.newton import CERTIFIED
from theory.solvers.options import Options
from theory.solvers.selection import Chosen, Search, grid
from theory.solvers.tabletask import TableTask
from theory.solvers.task import Fit
from theory.statistics.sandwich import variances

# The companions of the instance that is asked for: other γ, another size.
COMPANIONS: tuple[dict[str, Any], ...] = ({"gamma": 0.5}, {"gamma": 2.0}, {"vocab": 4, "contexts": 4})
# Below this forward KL (nats) a population minimiser is the target to the precision of float64.
ZERO = 1e-10
# How far beyond the searched grid a tuned hyperparameter is followed when its best value is at an edge.
BEYOND = (1e-1, 1e-2, 1e-4, 1e-6)


@dataclass(frozen=True)
class Limit:
    """A population minimiser.

    Attributes:
        instance: its world.
        task: the population as data, one data set.
        chosen: the fit, its hyperparameters and certificate.
        finite: it is a minimum, not a sequence that runs to the boundary; None if undecided.
    """

    instance: Instance
    settings: Settings
    task: TableTask
    chosen: Chosen
    finite: bool | None

    @property
    def fit(self) -> Fit:
        """The fitted tables, one data set."""
        return self.chosen.fits[0]

    @property
    def hyper(self) -> dict[str, float]:
        """Every hyperparameter."""
        return {name: float(value[0]) for name, value in self.chosen.hyper.items()}

    @property
    def logp(self) -> Array:
        """log π of the minimiser, shape (X, V)."""
        return self.fit.logp[0].numpy()

    @cached_property
    def forward_kl(self) -> float:
        """Σ_x ρ_x KL(π*‖π_∞), nats; inf where there is no minimiser."""
        return float(distance_to_target(self.instance)(self.chosen.fits)[0]) if self.finite is not False else math.inf

    @property
    def regular(self) -> bool:
        """A finite, certified minimum with curvature in every direction of the policy, at which expansions are valid."""
        return self.finite is True and float(self.fit.gradient_norm[0]) <= CERTIFIED and self._identified

    @cached_property
    def _identified(self) -> bool:
        try:
            found = variances(self.task, self.settings.objective, self.chosen.hyper, self.fit)
        except NotImplementedError:  # an ensemble's least member, which is a fit like any other
            return True
        return bool(found.identified.all())


@dataclass(frozen=True)
class Subject:
    """An objective under audit.

    Attributes:
        objective: any `Objective`.
        values: hyperparameters fixed by the user; the tuned one is searched unless it is among them.
        options: ridge (of finite samples), reward head, oracle, seed.
        instance: the world of the headline numbers.
        seed: of data sets.
        scans: values asked for, by hyperparameter.
    """

    objective: Objective
    values: dict[str, float] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    instance: Instance = field(default_factory=random_instance)
    seed: int = 0
    scans: dict[str, list[float]] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """How it is fitted: the tuned hyperparameter as the target likes it best."""
        return Settings(self.objective, self.values, "best", self.options)

    @property
    def defaults(self) -> dict[str, float]:
        """Every hyperparameter as a user who tunes nothing would have it."""
        return self.objective.resolve(self.values)

    @cached_property
    def family(self) -> tuple[Instance, ...]:
        """The instance and three random companions with another γ or size."""
        return (self.instance, *(random_instance(k, **world) for k, world in enumerate(COMPANIONS, start=1)))

    @cached_property
    def limit(self) -> Limit:
        """The population minimiser on the instance, at the best value of the tuned hyperparameter."""
        return population_limit(self.instance, self.settings)

    @cached_property
    def untuned(self) -> Limit:
        """The population minimiser on the instance at the default hyperparameters."""
        return population_limit(self.instance, replace(self.settings, values=self.defaults, rule="fixed"))

    def describe(self, instance: Instance) -> str:
        """An instance in words."""
        return f"{instance.name}, V = {instance.vocab}, X = {instance.contexts}, γ = {instance.gamma:g}"


def population_limit(instance: Instance, settings: Settings) -> Limit:
    """The population minimiser at the best value of the tuned hyperparameter.

    Where that is at the edge of the grid it is followed beyond, to see whether the target is
    reached in the limit; if not, the edge is what a user would settle for.
    """
    task = make_task(instance, population(instance), settings)
    assert isinstance(task, TableTask)
    search, criterion = Search(settings.objective, [task]), distance_to_target(instance)
    chosen = choose(search, settings, criterion)
    if (name := settings.searched) is not None and float(criterion(chosen.fits)[0]) > ZERO:
        for value in _beyond(settings, float(chosen.hyper[name][0])):
            further = search.finish({**chosen.hyper, name: torch.tensor([value], dtype=torch.float64)})
            if float(criterion(further.fits)[0]) <= ZERO:
                chosen = further
                break
    return Limit(instance, settings, task, chosen, is_minimum(task, settings.objective, chosen.hyper, chosen))


def _beyond(settings: Settings, value: float) -> list[float]:
    """Values past the edge of the grid that ``value`` lies at; none if it is inside."""
    parameter = settings.objective.tuned
    assert parameter is not None
    tried = [v for v in grid(parameter) if v > 0]
    if 0 < value <= 1.01 * min(tried):
        further = [value * factor for factor in BEYOND]
    elif value >= max(tried) / 1.01:
        further = [value / factor for factor in BEYOND]
    else:
        return []
    return [v for v in further if parameter.about.low < v < parameter.about.high]


def is_minimum(task: TableTask, objective: Objective, hyper: dict[str, Tensor], chosen: Chosen | None = None) -> bool | None:
    """Whether one data set without a ridge has a minimum rather than a flight to the boundary; None if undecided.

    Structure decides (`existence`, `recession`), except for a loss that levels off on both sides:
    then the objective must rise when the fitted logits are doubled, since on a flight it does not.

    Args:
        chosen: the fit at ``hyper``, if it is known already.
    """
    if bool(task.vanishing(objective, hyper)[0].any()):
        return None if bool(task.undecided(objective, hyper)[0]) else False
    levels_off = bool(task.drain(objective, hyper).levels_off(1)[0])
    if chosen is None and levels_off:
        chosen = Search(objective, [task]).finish(hyper)
    if chosen is None:
        return True
    (fit,) = chosen.fits
    if not bool(torch.isfinite(fit.value).all() & torch.isfinite(fit.logp).all()):
        return False
    return not (levels_off and bool(runs_away(task, objective, hyper, fit)[0]))


def runs_away(task: TableTask, objective: Objective, hyper: dict[str, Tensor], fit: Fit) -> np.ndarray:
    """Data sets on which some context's objective levels off along its fitted logits, shape (S,).

    It does not rise when they are doubled, though it does when they are shrunk to a spread of less
    than a nat: a flat objective does neither, a minimum both.
    """
    spread = fit.logp.amax(-1, keepdim=True) - fit.logp.amin(-1, keepdim=True)
    near, here, far = (
        context_values(task, objective, hyper, torch.log_softmax(scale * fit.logp, -1)) for scale in (1 / (1 + spread), 1.0, 2.0)
    )
    rounding = 1e-9 * (1 + np.abs(here))
    return np.asarray(((far - here <= rounding) & (near - here > rounding)).any(-1))


def context_values(task: TableTask, objective: Objective, hyper: dict[str, Tensor], logp: Tensor) -> Array:
    """The objective in every context at a policy, the least member's for an ensemble, shape (S, X), nats."""
    found = []
    for reward in task.rewards(objective):
        problem = task.problem(objective, hyper, reward)
        found.append(problem.evaluate(problem.start(logp.flatten(0, 1).unsqueeze(1)))[0].reshape(task.seeds, -1))
    return torch.stack(found).amin(0).numpy()


def repeated(data: WinCounts, times: int) -> WinCounts:
    """The same data set ``times`` times, so that one batch can try as many settings."""
    return WinCounts(np.repeat(data.wins, times, 0), np.repeat(data.totals, times, 0), data.n)


def at_values(subject: Subject, instance: Instance, settings: Sequence[dict[str, float]]) -> Fit:
    """The population minimisers at many settings of the hyperparameters at once, one a data set of the result."""
    data = repeated(population(instance), len(settings))
    task = make_task(instance, data, subject.settings)
    columns = {name: torch.tensor([s[name] for s in settings], dtype=torch.float64) for name in settings[0]}
    return Search(subject.objective, [task]).finish(columns).fits[0]

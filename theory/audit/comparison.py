"""One objective against others: at which values of their hyperparameters do they share its population minimiser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
from torch import Tensor

from theory.audit.matching import (
    SAME,
    corners,
    divergence,
    expressions,
    locate,
    minimiser,
    newton_distance,
    policy_gradient,
    random_policies,
    scale_between,
)
from theory.audit.subject import Subject, population_limit
from theory.instances import Instance, random_instance
from theory.objectives import Objective, get
from theory.objectives.rkl import rlhf_reward
from theory.sampling import draw, population
from theory.simulation import Settings, make_task
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask
from theory.solvers.task import REWARD

# The world in which matches are found, and another one in which an expression for the value must hold too.
HERE, ELSEWHERE = (0, 0.7), (1, 1.1)  # seed, γ
VOCAB, CONTEXTS, COMPARISONS = 4, 2, 4000
# Targets are raised to this power, so that policies as sharp as (π*)^{γ/β} keep all their digits.
MILDNESS = 0.25
# The subject's hyperparameters are multiplied by this in the other world.
SHIFT = 1.3
# Expressions of hyperparameters agree with a value found to this share of it.
EQUAL = 1e-6

AS_IT_IS, UNIFORM, TRANSFORMED = "as it is", "uniform reference", "reward r̂/γ − α log π_ref"
# Kinds of sameness, strongest first.
OBJECTIVE = "same objective up to scale"
IN_POPULATION = "same objective in the population"
MINIMISER = "same minimiser"
LIMIT = "same population minimiser"
KINDS = (OBJECTIVE, IN_POPULATION, MINIMISER, LIMIT)


@dataclass(frozen=True)
class Match:
    """Another objective with the subject's population minimiser.

    Attributes:
        method: its name.
        values: its hyperparameters, the tuned one as found.
        at: the subject's hyperparameters.
        world: what was changed: `AS_IT_IS`, `UNIFORM` or `TRANSFORMED` (the other gets this reward).
        divergence, on_data: KL between the minimisers, in the population and on one data set, nats.
        scale, scale_on_data: k with the subject's gradient k times the other's at random policies; None without one.
        relation: its hyperparameters in terms of the subject's and γ, as far as they move with them, confirmed in a
            second world with other values; empty if there is no simple relation.
        general: the sameness was confirmed in the second world.
    """

    method: str
    values: dict[str, float]
    at: dict[str, float]
    world: str
    divergence: float
    on_data: float
    scale: float | None
    scale_on_data: float | None
    relation: dict[str, str] = field(default_factory=dict)
    general: bool = False

    @property
    def kind(self) -> str:
        """How far the sameness goes, one of `KINDS`."""
        if self.scale is not None:
            return IN_POPULATION if self.scale_on_data is None else OBJECTIVE
        return MINIMISER if self.on_data <= SAME else LIMIT

    @property
    def label(self) -> str:
        """The method and those of its hyperparameters that are not at their defaults; see `label`."""
        return label(get(self.method), self.values)

    @property
    def changed(self) -> bool:
        """Whether a hyperparameter besides the tuned one is not at its default."""
        tuned, defaults = get(self.method).tuned, get(self.method).resolve({})
        return any(v != defaults[n] for n, v in self.values.items() if tuned is None or n != tuned.name)

    @property
    def where(self) -> str:
        """The values of its hyperparameters that were found or move with the subject's, in words."""
        tuned = get(self.method).tuned
        told = dict.fromkeys([tuned.name] if tuned else []) | self.relation
        return ", ".join(f"{n.rstrip('_')} = {self.values[n]:.4g}{_bracketed(e)}" for n, e in told.items())


def _bracketed(expression: str | None) -> str:
    """An expression in brackets, unless it is a number."""
    return "" if expression is None or set(expression) <= set("0123456789/") else f" ({expression})"


def label(objective: Objective, values: dict[str, float]) -> str:
    """An objective with its hyperparameters, leaving out those at their default and a tuned one that is not 0."""
    tuned = objective.tuned.name if objective.tuned else None
    defaults = objective.resolve({})
    told = {n: v for n, v in values.items() if (v == 0 if n == tuned else v != defaults[n])}
    words = ", ".join(f"{name.rstrip('_')} = {value:g}" for name, value in told.items())
    return f"{objective.name} ({words})" if words else objective.name


@dataclass(frozen=True)
class Stage:
    """A world to compare in: the population and one data set, as the subject and as the other objective see them."""

    name: str
    instance: Instance
    population: tuple[TableTask, TableTask]
    data: tuple[TableTask, TableTask]


def stages(options: Options, alpha: float, seed: int, gamma: float) -> list[Stage]:
    """A random world as it is, with a uniform reference (the same data), and with a transformed reward for the other.

    Args:
        options: of both objectives; no ridge, so that minimisers are exact.
        alpha: α of the transformed reward r̂/γ − α log π_ref.
    """
    drawn = random_instance(seed, vocab=VOCAB, contexts=CONTEXTS, gamma=gamma)
    mild = drawn.target**MILDNESS
    plain = replace(drawn, target=mild / mild.sum(-1, keepdims=True))
    uniform = replace(plain, reference=np.full_like(plain.target, 1 / plain.vocab))
    found = []
    for name, instance in ((AS_IT_IS, plain), (UNIFORM, uniform)):
        settings = Settings(REWARD, options=replace(options, ridge=0.0))
        both = [make_task(instance, data, settings) for data in (population(instance), draw(instance, COMPARISONS, 0))]
        tasks = [(task, task) for task in both if isinstance(task, TableTask)]
        found.append(Stage(name, instance, *tasks))
    as_it_is = found[0]
    changed = [(task, transformed(task, alpha)) for task, _ in (as_it_is.population, as_it_is.data)]
    return [*found, Stage(TRANSFORMED, plain, *changed)]


def transformed(task: TableTask, alpha: float) -> TableTask:
    """The task whose reward, given as the true one, is r̂/γ − α log π_ref."""
    known = task.world.true_reward if task.options.oracle == "true" else None
    reward = task.reward_fit.reward[0] if known is None else known
    changed = rlhf_reward(reward, task.world.log_ref, gamma=task.world.gamma, alpha=alpha)
    return TableTask(task.data, replace(task.world, true_reward=changed), replace(task.options, oracle="true"))


@dataclass(frozen=True)
class Frame:
    """The subject at some hyperparameters in one world.

    Attributes:
        origin: the frame of the same subject in the same world, if this one changes only what the other sees.
    """

    objective: Objective
    at: dict[str, float]
    stage: Stage
    origin: Frame | None = None

    @cached_property
    def logp(self) -> Tensor | None:
        """log π of the population minimiser, shape (X, V); None unless it is certified and the policy is trained."""
        if self.origin is not None:
            return self.origin.logp
        options = self.stage.population[0].options
        limit = population_limit(self.stage.instance, Settings(self.objective, self.at, "fixed", options))
        return limit.fit.logp[0] if limit.regular and bool(self.gradients[0].any()) else None

    @cached_property
    def fitted(self) -> Tensor:
        """log π of the minimiser on the data set, shape (X, V)."""
        if self.origin is not None:
            return self.origin.fitted
        return minimiser(self.stage.data[0], self.objective, self.at)

    @cached_property
    def gradients(self) -> tuple[Tensor, Tensor]:
        """In the logits at random policies, in the population and on the data set."""
        return self._gradients(self.objective, self.at, 0)

    def _gradients(self, objective: Objective, values: dict[str, float], side: int) -> tuple[Tensor, Tensor]:
        tasks = self.stage.population[side], self.stage.data[side]
        first, second = (policy_gradient(task, objective, values, random_policies(task)) for task in tasks)
        return first, second

    def find(self, other: Objective, base: dict[str, float]) -> Match | None:
        """The other objective at the value of its tuned hyperparameter that matches; None if none does."""
        assert self.logp is not None
        task, on_data = self.stage.population[1], self.stage.data[1]
        values = locate(task, other, base, self.logp)
        if values is None:
            return None
        theirs = self._gradients(other, values, 1)
        gap = divergence(task, self.logp, minimiser(task, other, values))
        if not (gap <= SAME and bool(theirs[0].any())):
            return None
        gap_on_data = divergence(on_data, self.fitted, minimiser(on_data, other, values))
        scales = [scale_between(mine, their) for mine, their in zip(self.gradients, theirs, strict=True)]
        name = self.stage.name
        return Match(other.name, values, self.at, name, gap, gap_on_data, scales[0], scales[1])


def shifted(objective: Objective, values: dict[str, float]) -> dict[str, float]:
    """Other values of the hyperparameters, within their ranges; one at 0 stays."""
    found = {}
    for p in objective.hyperparameters:
        value = values[p.name]
        found[p.name] = value * SHIFT if p.about.low <= value * SHIFT <= p.about.high else value / SHIFT
    return found


@dataclass(frozen=True)
class Comparison:
    """The subject at its default hyperparameters, and in the corners of their ranges, against registered objectives."""

    subject: Subject

    @cached_property
    def here(self) -> list[Stage]:
        """The worlds in which matches are found."""
        return self._stages(self.subject.defaults, *HERE)

    @cached_property
    def elsewhere(self) -> list[Stage]:
        """The worlds in which they are confirmed."""
        return self._stages(shifted(self.subject.objective, self.subject.defaults), *ELSEWHERE)

    def _stages(self, values: dict[str, float], seed: int, gamma: float) -> list[Stage]:
        entropy = self.subject.objective.coefficients(gamma=gamma, **values).entropy
        return stages(self.subject.options, float(entropy) or 1.0, seed, gamma)

    @cached_property
    def frames(self) -> list[tuple[Frame, Frame]]:
        """The subject here and elsewhere, wherever it has a certified minimiser here."""
        objective = self.subject.objective
        found = []
        for at in corners(objective, self.subject.defaults):
            here, there = frames(objective, at, self.here), frames(objective, shifted(objective, at), self.elsewhere)
            found += [(mine, again) for mine, again in zip(here, there, strict=True) if mine.logp is not None]
        return found

    def matches(self, others: Iterable[Objective]) -> Iterator[Match]:
        """Every match that is not implied by one in the world as it is."""
        variants = [(other, base) for other in others for base in fixed_parts(other)]
        plain: dict[int, Match] = {}
        for here, there in self.frames:
            if here.stage.name == AS_IT_IS:
                plain.clear()
            for k, (other, base) in enumerate(variants):
                if here.stage.name == TRANSFORMED and (k in plain or not other.needs_reward):
                    continue
                found = here.find(other, base)
                if found is None or (k in plain and KINDS.index(plain[k].kind) <= KINDS.index(found.kind)):
                    continue
                if here.stage.name == AS_IT_IS:
                    plain[k] = found
                yield confirmed(found, there, other, here.stage.instance.gamma)


def frames(objective: Objective, at: dict[str, float], worlds: Sequence[Stage]) -> list[Frame]:
    """An objective at some hyperparameters in every world."""
    plain = {stage.name: Frame(objective, at, stage) for stage in worlds}
    return [Frame(objective, at, s, plain[AS_IT_IS]) if s.name == TRANSFORMED else plain[s.name] for s in worlds]


def fixed_parts(objective: Objective) -> list[dict[str, float]]:
    """The corners of every hyperparameter but the tuned one."""
    values = objective.resolve({})
    tuned = objective.tuned.name if objective.tuned else None
    return [corner for corner in corners(objective, values) if tuned is None or corner[tuned] == values[tuned]]


def confirmed(match: Match, there: Frame, other: Objective, gamma: float) -> Match:
    """The match with the relation of its hyperparameters to the subject's: the first that holds in another world too."""
    if there.logp is None:
        return match
    here, elsewhere = expressions(match.at, gamma), expressions(there.at, there.stage.instance.gamma)
    choices = []
    for parameter in other.hyperparameters:
        value = match.values[parameter.name]
        known = [e for e, v in here.items() if e in elsewhere and abs(v - value) <= EQUAL * value and value]
        stays = [None] if parameter != other.tuned or not value else []
        choices.append([(parameter.name, e) for e in [*stays, *known]])
    for choice in product(*choices):
        values = {name: match.values[name] if e is None else elsewhere[e] for name, e in choice}
        if newton_distance(there.stage.population[1], other, values, there.logp) <= SAME:
            return replace(match, relation={name: e for name, e in choice if e is not None}, general=True)
    return match

"""One simulated experiment: data drawn from an instance, an objective fitted, the truth measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theory.errors import UserError
from theory.instances import Instance
from theory.objectives import Objective
from theory.sampling import Edges, WinCounts, draw, draw_edges, is_dense, population
from theory.solvers.edgetask import EdgeTask
from theory.solvers.existence import Mask, WinGraph
from theory.solvers.options import Options
from theory.solvers.selection import Chosen, Criterion, Search
from theory.solvers.tabletask import TableTask
from theory.solvers.task import Fit, Task, World
from theory.statistics import divergences

OUT_OF_REACH = "the population of a table this large is known in closed form only"


@dataclass(frozen=True)
class Settings:
    """What to fit and how.

    Attributes:
        objective: any `Objective`.
        values: hyperparameters given by the user; the rest keep their defaults.
        rule: how the tuned hyperparameter is chosen: ``best`` (least forward KL: uses the target),
            ``validation`` (least held-out preference loss) or ``fixed``.
        options: ridge, reward head, oracle, seed.
        policy_class, reward_class: ``table`` or ``log-linear`` (the instance's features).
    """

    objective: Objective
    values: dict[str, float] = field(default_factory=dict)
    rule: str = "best"
    options: Options = field(default_factory=Options)
    policy_class: str = "table"
    reward_class: str = "table"

    @property
    def searched(self) -> str | None:
        """The name of the hyperparameter that a rule chooses, or None."""
        tuned = self.objective.tuned
        return tuned.name if tuned and self.rule != "fixed" and tuned.name not in self.values else None


@dataclass
class Outcome:
    """What came of S data sets; arrays of shape (S,) unless stated.

    Attributes:
        n: comparisons in each data set.
        hyper: hyperparameters used.
        forward_kl, reverse_kl: Σ_x ρ_x KL(π*‖π̂) and Σ_x ρ_x KL(π̂‖π*), nats.
        total_variation: Σ_x ρ_x TV.
        finite: the objective has a finite minimiser on these data without the ridge.
        undecided: structure does not decide that: a loss that depends on the level of the
            log-probabilities in a log-linear class, or a KL(π‖π_ref) against a slower drain
            (`existence.competing`); ``finite`` and ``vanishing`` then speak of the boundary alone.
        vanishing: responses whose probability it sends to 0, (S, X, V) bool; None in a log-linear
            class, where the loss does not tell which.
        gradient_norm, iterations, kind, starts, agreeing: the certificate.
        logp: log π̂, (S, X, V). student: the student's reward, or None.
    """

    n: float
    hyper: dict[str, np.ndarray]
    forward_kl: np.ndarray
    reverse_kl: np.ndarray
    total_variation: np.ndarray
    finite: np.ndarray
    undecided: np.ndarray
    vanishing: Mask | None
    gradient_norm: np.ndarray
    iterations: np.ndarray
    kind: str
    starts: int
    agreeing: np.ndarray
    logp: np.ndarray
    student: np.ndarray | None


def draw_data(instance: Instance, n: float, seed: int, replicates: range = range(1)) -> WinCounts | Edges:
    """Data of n comparisons (``inf`` for the population), dense or sparse as the table's size asks."""
    dense = is_dense(instance.vocab, instance.contexts)
    if math.isinf(n):
        if not dense:
            raise UserError("--n", "inf", f"the population needs a table of pairs, too large at V = {instance.vocab}")
        return population(instance)
    if dense:
        return draw(instance, int(n), seed, replicates)
    if len(replicates) != 1:
        raise UserError("--vocab", instance.vocab, "the sparse path fits one data set at a time")
    return draw_edges(instance, int(n), seed, replicates[0])


def world_of(instance: Instance, settings: Settings) -> World:
    """What a fit may know of an instance."""
    features = {}
    for name in ("policy", "reward"):
        kind = getattr(settings, f"{name}_class")
        if kind == "log-linear" and instance.features is None:
            raise UserError(f"--{name}-class", kind, "needs an instance with features (--features d, or in the file)")
        features[name] = torch.from_numpy(instance.features) if kind == "log-linear" else None
    log_ref = torch.from_numpy(np.log(instance.reference))
    true_reward = torch.from_numpy(instance.reward())
    return World(log_ref, instance.gamma, true_reward, features["policy"], features["reward"])


def make_task(instance: Instance, data: WinCounts | Edges, settings: Settings) -> Task:
    """The task of fitting an instance's data."""
    world = world_of(instance, settings)
    both = settings.objective.reads("logp") and settings.objective.reads("student_reward") and not settings.options.tied
    if both and settings.policy_class != settings.reward_class:
        name = settings.objective.name
        raise UserError("--policy-class", settings.policy_class, f"{name} trains a reward head too: give --reward-class the same")
    if isinstance(data, WinCounts):
        return TableTask(data, world, settings.options)
    if world.policy_features is not None or world.reward_features is not None:
        raise UserError("--policy-class", "log-linear", f"is not available at V = {instance.vocab}")
    return EdgeTask(data, world, settings.options)


def solve(instance: Instance, task: Task, settings: Settings) -> Outcome:
    """Fit the objective to every data set of ``task`` and measure it against the target."""
    search = Search(settings.objective, [task])
    chosen = choose(search, settings, distance_to_target(instance))
    (fit,) = chosen.fits
    if settings.policy_class == settings.reward_class == "table":
        vanishing = task.vanishing(settings.objective, chosen.hyper)
        undecided = task.undecided(settings.objective, chosen.hyper)
        return _outcome(instance, task, chosen, fit, vanishing, np.asarray(~vanishing.any((1, 2))), undecided)
    assert isinstance(task, TableTask)
    finite = task.finite(settings.objective, chosen.hyper)
    unknown = np.full(task.seeds, finite is None)
    return _outcome(instance, task, chosen, fit, None, np.ones(task.seeds, bool) if finite is None else finite, unknown)


def choose(search: Search, settings: Settings, best: Criterion) -> Chosen:
    """The fit under the settings' rule; ``best`` is the criterion of the rule of that name."""
    values = settings.objective.resolve(settings.values)
    if settings.searched is None:
        return search.at(values)
    return search.validated(values) if settings.rule == "validation" else search.finish(*search.choose(values, best))


def distance_to_target(instance: Instance) -> Criterion:
    """The forward KL to an instance's target, as a criterion."""
    log_target, weights = torch.from_numpy(np.log(instance.target)), torch.from_numpy(instance.context_weights)
    return lambda fits: divergences.forward_kl(log_target, fits[0].logp, weights)


def _outcome(
    instance: Instance, task: Task, chosen: Chosen, fit: Fit, vanishing: Mask | None, finite: Mask, undecided: Mask
) -> Outcome:
    log_target, weights = torch.from_numpy(np.log(instance.target)), torch.from_numpy(instance.context_weights)
    distances = {
        "forward_kl": divergences.forward_kl(log_target, fit.logp, weights),
        "reverse_kl": divergences.reverse_kl(log_target, fit.logp, weights),
        "total_variation": (divergences.total_variation(log_target, fit.logp) * weights).sum(-1),
    }
    # Without a ridge a drained response has probability 0 and the forward KL is infinite; where the
    # mass goes instead is not decided by the loss.
    lost = torch.from_numpy(~finite & ~undecided & (task.options.ridge == 0))
    unknown = {"forward_kl": math.inf, "reverse_kl": math.nan, "total_variation": math.nan}
    measured = {name: torch.where(lost, unknown[name], d).numpy() for name, d in distances.items()}
    return Outcome(
        n=_size(task),
        hyper={name: value.expand(task.seeds).numpy() for name, value in chosen.hyper.items()},
        finite=finite,
        undecided=undecided,
        vanishing=vanishing,
        gradient_norm=fit.gradient_norm.numpy(),
        iterations=fit.iterations.numpy(),
        kind=chosen.kind,
        starts=chosen.starts,
        agreeing=chosen.agreeing.numpy(),
        logp=fit.logp.numpy(),
        student=None if fit.student is None else fit.reward.numpy(),
        **measured,
    )


def _size(task: Any) -> float:
    return float(task.data.n)


def floor(instance: Instance, settings: Settings) -> float:
    """The forward KL of the population minimiser under the same β rule, nats; NaN where it is out of reach.

    Above the dense limit it is computed only where the minimiser has a closed form.
    """
    if is_dense(instance.vocab, instance.contexts):
        task = make_task(instance, population(instance), settings)
        return float(solve(instance, task, settings).forward_kl[0])
    search = Search(settings.objective, [LimitTask(world_of(instance, settings), settings.options)])
    try:
        chosen = choose(search, replace(settings, rule="best") if settings.searched else settings, distance_to_target(instance))
    except NotImplementedError:
        return math.nan
    return float(distance_to_target(instance)(chosen.fits)[0])


class LimitTask(Task):
    """The population of a table too large to hold: only closed forms, from r = γ log π* itself."""

    seeds = 1

    def __init__(self, world: World, options: Options):
        self.world, self.options = world, options

    @property
    def reward_fit(self) -> Fit:
        """The Bradley–Terry reward's limit, γ log π*, which an unrestricted table contains."""
        assert self.world.true_reward is not None
        return _exact(self.log_ref, self.world.true_reward[None])

    def certify(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, logp: Tensor) -> Fit:
        return _exact(logp, None)

    def resampled(self, rng: np.random.Generator) -> LimitTask:
        return self

    def iterate(self, objective: Objective, hyper: dict[str, Tensor], reward: Tensor | None, start: Tensor) -> Fit:
        raise NotImplementedError(OUT_OF_REACH)

    def divided(self, held_out: float, rng: np.random.Generator) -> tuple[Task, Task]:
        raise NotImplementedError(OUT_OF_REACH)

    def log_loss(self, logp: Tensor) -> Tensor:
        raise NotImplementedError(OUT_OF_REACH)

    def comparisons(self) -> Tensor:
        raise NotImplementedError(OUT_OF_REACH)

    def graph(self) -> WinGraph:
        raise NotImplementedError(OUT_OF_REACH)


def _exact(logp: Tensor, student: Tensor | None) -> Fit:
    zero = torch.zeros(1, dtype=torch.float64)
    return Fit(logp, student, zero, zero, torch.zeros(1, dtype=torch.long))

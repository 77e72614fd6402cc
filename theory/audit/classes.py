"""Classes too small for the target: a log-linear policy or reward of few features."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from theory import objectives
from theory.audit.subject import Subject
from theory.audit.tuning import SETTLED, Tuned, table_task, tuned
from theory.instances import Instance
from theory.sampling import WinCounts
from theory.simulation import Settings, distance_to_target
from theory.solvers.selection import Search

FEATURES = 3
LINEAR = "log-linear"


@dataclass(frozen=True)
class Misspecified:
    """A population minimiser in a class that lacks the target; distances Σ_x ρ_x KL(π*‖·), nats.

    Attributes:
        world: the instance with its features.
        limits: the minimiser, the hyperparameter tuned within the class.
        both: policy and reward head share the class.
        least: of any policy of the class, min_w KL(π*‖exp(φ·w)/Z).
        full: of the population minimiser in the full class.
        reference: of π_ref.
    """

    world: Instance
    limits: Tuned
    both: bool
    least: float
    full: float
    reference: float

    @property
    def forward_kl(self) -> float:
        """Of the population minimiser."""
        return float(self.limits.forward_kl[0])

    @property
    def settled(self) -> bool:
        """Whether it is a minimiser to the digits reported."""
        return bool(self.limits.gradient_norm[0] <= SETTLED)

    @property
    def excess(self) -> float:
        """What the minimiser loses to the best policy of the class."""
        return self.forward_kl - self.least


def trained(subject: Subject) -> tuple[str, ...]:
    """What the objective trains: ``policy``, ``student``, or both."""
    limit = subject.limit
    return limit.task.problem(subject.objective, limit.chosen.hyper).variables


def learns_reward(subject: Subject) -> bool:
    """Whether a reward is fitted to the data: one that the objective reads, or a head of its own."""
    fitted = subject.objective.needs_reward and subject.options.oracle == "learned"
    return fitted or "student" in trained(subject)


def with_small_class(instance: Instance, seed: int = 0) -> Instance:
    """The instance with features φ = (log π_ref, log π* + N(0, 1), N(0, 1)), or those it has.

    As for a language model, the class contains the reference, and with it something of the target,
    but not the target. Where V ≤ 3, the first V − 1 features.
    """
    if instance.features is not None:
        return instance
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4,)))
    noise = rng.standard_normal((2, *instance.target.shape))
    columns = (np.log(instance.reference), np.log(instance.target) + noise[0], noise[1])
    return instance.with_features(np.stack(columns, -1)[..., : min(FEATURES, instance.vocab - 1)])


def least_in_class(instance: Instance) -> float:
    """min_w Σ_x ρ_x KL(π*‖π_w), π_w ∝ exp(φ·w): maximum likelihood on winners distributed as π*.

    Only a pair's winner enters −log π(y_w), so that any loser will do. A convex problem.
    """
    size = instance.vocab
    wins = instance.context_weights[:, None, None] * instance.target[:, :, None] * (1 - np.eye(size)) / (size - 1)
    data = WinCounts(wins[None], instance.context_weights[None], math.inf)
    sft = objectives.get("sft")
    chosen = Search(sft, [table_task(instance, data, Settings(sft, policy_class=LINEAR))]).at({})
    return float(distance_to_target(instance)(chosen.fits)[0])


def in_policy_class(subject: Subject) -> Misspecified:
    """The limit when the policy is log-linear; a reward head trained with it gets the same class."""
    both = "student" in trained(subject)
    return _misspecified(subject, both, LINEAR, LINEAR if both else "table")


def in_reward_class(subject: Subject) -> Misspecified:
    """The limit when the learned reward is log-linear, r = φ·w; a policy trained beside a head gets the same class."""
    both = {"policy", "student"} <= set(trained(subject))
    return _misspecified(subject, both, LINEAR if both else "table", LINEAR)


def _misspecified(subject: Subject, both: bool, policy: str, reward: str) -> Misspecified:
    world = with_small_class(subject.instance)
    limits = tuned([world], replace(subject.settings, policy_class=policy, reward_class=reward))
    apart = (world.target * np.log(world.target / world.reference)).sum(1)
    reference = float(world.context_weights @ apart)
    return Misspecified(world, limits, both, least_in_class(world), subject.limit.forward_kl, reference)

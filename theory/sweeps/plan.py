"""What a sweep consists of: its configuration, and the chunks that it is computed in."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from theory.instances import Instance
from theory.simulation import Settings

# Data sets solved together: enough to keep the arithmetic busy, few enough to lose little.
CHUNK_SEEDS = 50


@dataclass(frozen=True)
class Plan:
    """Methods × sample sizes × seeds on one instance.

    Attributes:
        instance: the world.
        settings: one `Settings` a method.
        sizes: sample sizes, increasing.
        seeds: number of data sets at each size.
        seed: root of every random stream.
    """

    instance: Instance
    settings: tuple[Settings, ...]
    sizes: tuple[float, ...]
    seeds: int
    seed: int

    def chunks(self) -> Iterator[Chunk]:
        """Every chunk: each size's blocks of seeds, and each method's population (n = ∞), its floor."""
        blocks = [(n, range(i, min(i + CHUNK_SEEDS, self.seeds))) for n in self.sizes for i in range(0, self.seeds, CHUNK_SEEDS)]
        for n, replicates in [(math.inf, range(1)), *blocks]:
            for index in range(len(self.settings)):
                yield Chunk(self, index, n, replicates)


@dataclass(frozen=True)
class Chunk:
    """One method at one sample size for a block of seeds: the unit that is computed and stored."""

    plan: Plan
    index: int
    n: float
    replicates: range

    @property
    def settings(self) -> Settings:
        """The method's settings."""
        return self.plan.settings[self.index]

    @property
    def name(self) -> str:
        """A file name that the same work always gets, and different work never does."""
        text = json.dumps([*fingerprint(self.plan, self.settings), self.n, [*self.replicates]], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.settings.objective.name}-n{self.n:g}-s{self.replicates.start}-{digest}.parquet"


def fingerprint(plan: Plan, settings: Settings) -> tuple[Any, ...]:
    """Everything that a method's numbers depend on besides n and the seeds."""
    return instance_digest(plan.instance), plan.seed, configuration(settings)


def configuration(settings: Settings) -> dict[str, Any]:
    """A method's configuration in JSON's types; a user's own objective by its source."""
    function = settings.objective.function
    own = not function.__module__.startswith("theory.")
    return {
        "method": settings.objective.name,
        "hyperparameters": settings.objective.resolve(settings.values),
        "beta_rule": settings.rule if settings.searched else "fixed",
        "policy_class": settings.policy_class,
        "reward_class": settings.reward_class,
        **vars(settings.options),
        **({"source": inspect.getsource(function)} if own else {}),
    }


def instance_digest(instance: Instance) -> str:
    """A hash of an instance's numbers."""
    digest = hashlib.sha256()
    for array in (instance.target, instance.reference, instance.data_policy, instance.context_weights, instance.features):
        digest.update(b"-" if array is None else array.tobytes())
    digest.update(repr((instance.target.shape, instance.gamma)).encode())
    return digest.hexdigest()

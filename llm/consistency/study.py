"""What a study consists of: methods × sample sizes × data sets, each of them one training run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from llm.consistency.table import Method
from llm.world.reference import Fitting
from theory.instances.language import Language
from theory.sweeps.plan import configuration

# Raised when training changes, so that results of an older version are not taken for its own.
RECIPE = 1
# Beyond it the comparisons of one data set, drawn one by one, fill the memory.
LARGEST_N = 20_000_000
# A policy starts at the reference. A reward head starts from nothing and shares its trunk with the policy, which it
# disturbs at first: it is given longer, and larger steps.
POLICY = {"max_steps": 300, "learning_rate": 1e-3}
WITH_HEAD = {"max_steps": 600, "learning_rate": 2e-3}
# Training arguments; keys that are given win. A batch costs no more than the distinct sequences in it.
DEFAULTS: dict[str, Any] = {
    "lr_scheduler_type": "cosine",
    "per_device_train_batch_size": 8192,
    "logging_steps": 25,
    "save_strategy": "no",
    "activation_checkpointing": False,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "report_to": "none",
    "bf16": False,
    "use_cpu": True,
}


@dataclass(frozen=True)
class Study:
    """Methods × sizes × seeds on one language.

    Attributes:
        language: whose target is to be reached.
        methods: what is trained.
        sizes: comparisons in a data set, increasing.
        seeds: data sets at each size.
        seed: of the first of them; data set k is that of ``llm train --seed`` seed + k.
        training: arguments of TRL's ``DPOConfig`` that were given.
        fitting: how the reference is fitted, from which every run starts.
    """

    language: Language
    methods: tuple[Method, ...]
    sizes: tuple[int, ...]
    seeds: int
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    fitting: Fitting = field(default_factory=Fitting)

    def arguments(self, method: Method) -> dict[str, Any]:
        """A method's training arguments."""
        own = WITH_HEAD if method.objective.reads("student_reward") else POLICY
        found = {**DEFAULTS, **own, **self.training}
        if "num_train_epochs" in self.training and "max_steps" not in self.training:
            del found["max_steps"]
        return found

    def digest(self, method: Method, *more: Any) -> str:
        """A hash of everything that decides a method's numbers, and of ``more``."""
        settings = configuration(method.settings(self.language, self.seed))
        text = json.dumps([RECIPE, self.language.fingerprint, settings, method.logp, *more], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Limit:
    """A method's hyperparameters, as its rule chose them, and its floor, nats."""

    hyper: dict[str, float]
    floor: float


@dataclass(frozen=True)
class Cell:
    """One training run: a method on one data set."""

    study: Study
    method: Method
    limit: Limit
    n: int
    replicate: int

    @property
    def seed(self) -> int:
        """Of the data and of training."""
        return self.study.seed + self.replicate

    @property
    def fixed(self) -> Method:
        """The method at the hyperparameters that its rule chose."""
        return Method(self.method.objective, self.limit.hyper, "fixed", self.method.logp, self.method.oracle)

    @property
    def name(self) -> str:
        """A file name that the same work always gets, and different work never does."""
        study = self.study
        digest = study.digest(self.fixed, self.n, self.seed, study.arguments(self.method), asdict(study.fitting))
        return f"{self.method.objective.name}-n{self.n}-s{self.seed}-{digest}.parquet"


def cells(study: Study, limits: list[Limit]) -> Iterator[Cell]:
    """Every run, those that take longest first, so that workers end together."""
    for n in sorted(study.sizes, reverse=True):
        for method, limit in zip(study.methods, limits, strict=True):
            for replicate in range(study.seeds):
                yield Cell(study, method, limit, n, replicate)

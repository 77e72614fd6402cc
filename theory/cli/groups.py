"""Options that belong together, declared once as a dataclass and taken by several commands."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from theory.cli import options
from theory.errors import UserError
from theory.instances.random import CONTEXTS, GAMMA, REF_NOISE, VOCAB
from theory.solvers.options import Options

if TYPE_CHECKING:
    from theory.instances import Instance
    from theory.objectives import Objective
    from theory.simulation import Settings


@dataclass(frozen=True)
class RandomWorld:
    """The random instance to draw."""

    vocab: options.Vocab = VOCAB
    contexts: options.Contexts = CONTEXTS
    gamma: options.Gamma = GAMMA
    ref_noise: options.RefNoise = REF_NOISE
    features: options.Features = 0
    realizable: options.Realizable = False

    def draw(self, seed: int) -> Instance:
        """The instance of that seed; raises `UserError` for a size or scale outside its range."""
        from theory.instances import random_instance

        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise UserError("--gamma", self.gamma, "must be positive and finite")
        return random_instance(seed, **{f.name: getattr(self, f.name) for f in fields(RandomWorld)})


@dataclass(frozen=True)
class World(RandomWorld):
    """The instance in a file, or a random one."""

    instance: options.InstanceFile = None
    instance_seed: options.InstanceSeed = 0

    def load(self) -> Instance:
        """The instance; raises `UserError`."""
        from theory.instances import load_instance

        if self.instance is not None:
            return load_instance(self.instance)
        return self.draw(options.nonnegative("--instance-seed", self.instance_seed))


@dataclass(frozen=True)
class Fitting:
    """How to fit, whatever the objective."""

    beta: options.Beta = None
    ridge: options.Ridge = Options.ridge
    reward_head: options.RewardHead = Options.reward_head
    oracle: options.Oracle = Options.oracle
    policy_class: options.PolicyClass = "table"
    reward_class: options.RewardClass = "table"

    def settings(self, objective: Objective, extra: list[str], seed: int, **changed: Any) -> Settings:
        """`Settings` of an objective with its own hyperparameters among ``extra``; raises `UserError`."""
        return options.settings_of(objective, extra, seed=seed, **{**vars(self), **changed})


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace each parameter whose type is one of these dataclasses by the dataclass's fields."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(command)
    def expanded(**arguments: Any) -> Any:
        for name, group in groups.items():
            arguments[name] = group(**{f.name: arguments.pop(f.name) for f in fields(group)})
        return command(**arguments)

    flat = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name not in groups:
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))
            continue
        group = groups[parameter.name]
        types = get_type_hints(group, include_extras=True)
        for f in fields(group):
            option = inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
            flat.append(option)
    expanded.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in flat}
    return expanded

"""The registry: an objective function together with what is known about it.

Everything that can be read off the function is read off it (inputs, coefficients, label-freeness,
whether it depends on the log-probabilities through their margin alone); the decorator states only
what cannot.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from theory.errors import UserError, nearest
from theory.objectives.pair import MissingInput, Pair, Terms


@dataclass(frozen=True)
class Hyper:
    """What a hyperparameter means and which values it may take, written in its annotation.

    ``low`` is excluded when ``open_low``. ``tuned`` marks the one that ``--beta best`` and
    ``--beta validation`` search. ``anneal`` is a (start, end) schedule for training runs.
    """

    meaning: str = ""
    low: float = float("-inf")
    high: float = float("inf")
    open_low: bool = False
    tuned: bool = False
    anneal: tuple[float, float] | None = None


@dataclass(frozen=True)
class Hyperparameter:
    """A hyperparameter of an objective, as its signature declares it."""

    name: str
    default: float
    about: Hyper

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.rstrip("_").replace("_", "-")

    @property
    def range(self) -> str:
        """Its range in words."""
        low = "(" if self.about.open_low or self.about.low == float("-inf") else "["
        high = ")" if self.about.high == float("inf") else "]"
        return f"{low}{self.about.low:g}, {self.about.high:g}{high}"

    def check(self, value: float) -> float:
        """The value as a float; raises `UserError` when it is outside the range."""
        inside = self.about.low <= value <= self.about.high and not (self.about.open_low and value <= self.about.low)
        if not (inside and math.isfinite(value)):
            raise UserError(self.option, f"{value:g}", f"must lie in {self.range}")
        return float(value)

    @property
    def generic(self) -> float:
        """A value in its range at which nothing vanishes or cancels, as it may at a default of 0, ½ or 1."""
        bottom, top = max(self.about.low, self.default - 1), min(self.about.high, self.default + 1)
        return bottom + 0.7 * (top - bottom)


PROBES = 64


def _probe_inputs(ensemble: int) -> dict[str, Tensor]:
    """Made-up numbers for every input of a pair, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for name in Pair.FIELDS:
        shape = (ensemble, PROBES) if name.startswith("reward") and ensemble > 1 else (PROBES,)
        numbers = torch.rand(shape, dtype=torch.float64, generator=generator)
        inputs[name] = -0.75 - numbers if "logp" in name else torch.ones(shape) if "length" in name else numbers + 1.0
    return inputs


@dataclass(frozen=True)
class Objective:
    """An objective: the one function, and the metadata that no code can derive from it."""

    name: str
    function: Callable[..., Tensor | Terms]
    hyperparameters: tuple[Hyperparameter, ...]
    sections: Mapping[str, str]
    convex: bool = False
    ensemble: int = 1
    implicit_reward: Callable[..., Tensor] | None = None
    bradley_terry: bool = False

    def terms(self, pair: Pair, *, gamma: float | Tensor = 1.0, **hyper: Any) -> Terms:
        """The objective on a pair, in the general form of `Terms`.

        Args:
            pair: inputs of any broadcastable shape.
            gamma: the preference model's γ (eq. 2), passed on if the function names it.
            hyper: the objective's own hyperparameters; defaults fill the rest.
        """
        result = self.function(pair, **self._arguments(gamma, hyper))
        return result if isinstance(result, Terms) else Terms(loss=result)

    def coefficients(self, *, gamma: float | Tensor = 1.0, **hyper: Any) -> Terms:
        """The four coefficients alone (``loss`` is that of one made-up pair, or None)."""
        return self.terms(self._probe[0].map(lambda t: t.flatten()[:1]), gamma=gamma, **hyper)

    def _arguments(self, gamma: Any, hyper: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {p.name: hyper.get(p.name, p.default) for p in self.hyperparameters}
        return {**arguments, "gamma": gamma} if self.needs_gamma else arguments

    def reduce(self, loss: Tensor) -> Tensor:
        """The batch's loss: the mean over pairs; for an ensemble, the least member's mean."""
        if self.ensemble == 1:
            return loss.mean()
        return loss.flatten(1).mean(1).min()

    @property
    def title(self) -> str:
        """The first line of the function's docstring."""
        return self.sections["title"]

    @cached_property
    def needs_gamma(self) -> bool:
        """Whether the function names γ."""
        return "gamma" in inspect.signature(self.function).parameters

    @cached_property
    def _probe(self) -> tuple[Pair, Terms]:
        pair = Pair(**_probe_inputs(self.ensemble))
        return pair, self.terms(pair)

    @cached_property
    def _settings(self) -> tuple[dict[str, float], ...]:
        """Hyperparameters to probe at: the defaults, and values at which no term vanishes."""
        return {}, {"gamma": 1.25, **{p.name: p.generic for p in self.hyperparameters}}

    @cached_property
    def inputs(self) -> frozenset[str]:
        """The `Pair` attributes that the function cannot do without."""
        return frozenset(name for name in Pair.FIELDS if self._misses(name))

    def _misses(self, name: str) -> bool:
        others = Pair(**{n: value for n, value in self._probe[0].given().items() if n != name})
        try:
            for hyper in self._settings:
                self.terms(others, **hyper)
        except MissingInput:
            return True
        return False

    def reads(self, quantity: str) -> bool:
        """Whether the function reads ``quantity`` (``logp``, ``reward``, …) of either response."""
        return bool(self.inputs & {f"{quantity}_chosen", f"{quantity}_rejected"})

    @property
    def reads_rejected(self) -> bool:
        """Whether the function reads anything of the rejected response."""
        return any(name.endswith("_rejected") for name in self.inputs)

    @cached_property
    def on_policy(self) -> bool:
        """Whether a language model needs samples of its own for it at the default hyperparameters."""
        terms = self._probe[1]
        return any(float(c) != 0 for c in (terms.reward, terms.entropy, terms.kl))

    @cached_property
    def has_loss(self) -> bool:
        """Whether it has a pair loss ℓ."""
        return self._probe[1].loss is not None

    @cached_property
    def needs_reward(self) -> bool:
        """Whether a fixed reward must be fitted or known first."""
        return self.reads("reward") or float(self._probe[1].reward) != 0

    @cached_property
    def label_free(self) -> bool:
        """Whether the objective never reads which response was preferred."""
        return not self.has_loss or self._invariant(Pair.swapped)

    @cached_property
    def margins(self) -> frozenset[str]:
        """The quantities (``logp``, ``student_reward``) that the loss reads as a margin Δ alone."""
        return frozenset(q for q in ("logp", "student_reward") if self.reads(q) and self._shift_invariant(q))

    def _shift_invariant(self, quantity: str) -> bool:
        """Whether adding a constant to both responses' ``quantity`` leaves the loss as it is."""
        sides = [f"{quantity}_{side}" for side in ("chosen", "rejected")]
        return self._invariant(lambda pair: pair.replace(**{name: getattr(pair, name) - 0.3 for name in sides}))

    def _invariant(self, change: Callable[[Pair], Pair]) -> bool:
        """Whether the loss of made-up pairs stays as it is under ``change``, at all settings."""
        pair = self._probe[0]
        for hyper in self._settings:
            before, after = self.terms(pair, **hyper).loss, self.terms(change(pair), **hyper).loss
            assert before is not None
            assert after is not None
            if not torch.allclose(before, after, rtol=1e-11, atol=1e-11):
                return False
        return True

    @property
    def tuned(self) -> Hyperparameter | None:
        """The hyperparameter that the β rules search: the marked one, else the one called beta."""
        marked = [p for p in self.hyperparameters if p.about.tuned]
        named = [p for p in self.hyperparameters if p.name == "beta"]
        return (marked or named or [None])[0]  # type: ignore[list-item]

    def resolve(self, values: Mapping[str, float]) -> dict[str, float]:
        """Defaults overridden by ``values``, each within its range; raises `UserError` if not."""
        known = {p.name: p for p in self.hyperparameters}
        for name in values:
            if name not in known:
                options = [p.option for p in self.hyperparameters]
                remedy = f"is no hyperparameter of {self.name}; it has {', '.join(options) or 'none'}"
                raise UserError("--" + name.rstrip("_").replace("_", "-"), None, remedy)
        return {name: p.check(values.get(name, p.default)) for name, p in known.items()}


_REGISTRY: dict[str, Objective] = {}
_SECTION = re.compile(r"^(Equation|Source|Limit|Note):\s*", re.MULTILINE)


def _sections(function: Callable[..., Any]) -> dict[str, str]:
    """Title, equation, source, limit and note, as the docstring states them."""
    text = inspect.getdoc(function) or function.__name__
    parts = _SECTION.split(text)
    found = {name.lower(): " ".join(body.split("\n\n")[0].split()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    return {"title": text.split("\n", 1)[0].rstrip("."), **found}


def _hyperparameters(function: Callable[..., Any]) -> tuple[Hyperparameter, ...]:
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.name == "gamma":
            continue
        if isinstance(parameter.default, bool) or not isinstance(parameter.default, int | float):
            raise UserError("--objective", function.__name__, f"hyperparameter {parameter.name} needs a number as default")
        found.append(Hyperparameter(parameter.name, float(parameter.default), _about(function, parameter)))
    return tuple(found)


def _about(function: Callable[..., Any], parameter: inspect.Parameter) -> Hyper:
    """Read what a parameter's annotation says of it: nothing if only a type checker can read that."""
    alone = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        hint = typing.get_type_hints(alone, globalns=inspect.unwrap(function).__globals__, include_extras=True)["it"]
    except Exception:
        return Hyper()
    return next((note for note in getattr(hint, "__metadata__", ()) if isinstance(note, Hyper)), Hyper())


def make(function: Callable[..., Any], **known: Any) -> Objective:
    """An `Objective` of a plain function (see `objective` for ``known``)."""
    name = function.__name__.replace("_", "-")
    return Objective(name, function, _hyperparameters(function), _sections(function), **known)


def objective(**known: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of a pair as an objective; it stays a plain function.

    Args:
        convex: ℓ is convex in the policy's logits (and in the student's rewards).
        ensemble: number of rewards k on a leading axis of ``pair.reward_*``; the data's mean loss
            is then the least member's.
        implicit_reward: ``f(logp, ref_logp, **hyper)``, affine in ``logp``, the reward that the
            policy stands for; the ridge acts on it (default: the log-ratio log π/π_ref).
        bradley_terry: ℓ is the Bradley–Terry loss of the implicit reward, so that its minimiser
            on an unrestricted table follows from the reward MLE in closed form.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        made = make(function, **known)
        taken = _REGISTRY.get(made.name)
        if taken is not None and taken.function.__module__ != function.__module__:
            raise UserError("objective", made.name, f"is already registered by {taken.function.__module__}")
        _REGISTRY[made.name] = made
        return function

    return register


def registered(function: Callable[..., Any]) -> Objective | None:
    """The objective that a decorated function was registered as, or None."""
    return next((made for made in _REGISTRY.values() if made.function is function), None)


def names() -> list[str]:
    """The registered command names, in alphabetical order."""
    return sorted(_REGISTRY)


def get(name: str) -> Objective:
    """The objective called ``name`` (hyphens or underscores); raises `UserError`."""
    found = _REGISTRY.get(name.replace("_", "-"))
    if found is None:
        raise UserError("--method", name, "is not a known objective; " + nearest(name, _REGISTRY))
    return found

"""Thousands of data sets for a finite class: what each method of the paper may return, and how often a bound breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from paper_checks.unified.classes import FiniteClass, Mask, fitted, grid, menu, scattered, worst
from theory.instances import Instance, random_instance
from theory.instances.mismatch import with_coverage
from theory.instances.tabular import Array
from theory.sampling import WinCounts, draw
from theory.statistics.rates import proportion

DELTAS = (0.5, 0.1, 0.05, 0.01)
SETS = 2_000
CONFIDENCE = 0.99
# A KL below this is rounding.
NOTHING = 1e-15


@dataclass(frozen=True)
class Trial:
    """n labelled comparisons, and a second stage on m unlabelled draws, ``sets`` times over.

    Wherever the data leave a choice (ties in likelihood, what was never seen), the worst is taken.
    """

    known: FiniteClass
    n: int = 300
    m: int = 300
    seed: int = 1
    sets: int = SETS

    @cached_property
    def labelled(self) -> WinCounts:
        """The comparisons."""
        return draw(self.known.instance, self.n, self.seed, range(self.sets))

    @cached_property
    def rewards(self) -> Mask:
        """The most likely members of Π_R, shape (S, |R|)."""
        return self.known.subclass.likely(self.labelled)

    def reward_errors(self) -> Array:
        """E_μ[(σ(Δr̂) − σ(Δr*))²] of the MLE over Π, shape (S,)."""
        return worst(self.known.errors, self.known.likely(self.labelled))

    def pmle(self) -> Array:
        """Forward KL of PMLE over Π, nats, shape (S,)."""
        return worst(self.known.kls, self.known.likely(self.labelled))

    def _unlabelled(self, base: Array) -> WinCounts:
        return draw(replace(self.known.instance, data_policy=base), self.m, self.seed + 1, range(self.sets))

    def distilled(self, base: Array) -> Array:
        """Forward KL of preference distillation: Δr_π̂ = Δr̂ on m pairs from ``base`` (X, V); nats, shape (S,)."""
        wins = self._unlabelled(base).wins
        seen, differs = wins.reshape(self.sets, -1), self.known.differs
        return worst(self.known.kls, fitted(self.rewards, seen, differs.reshape(*differs.shape[:2], -1)))

    def reverse(self) -> Array:
        """Forward KL of RKL: π̂ = π_r̂ on m prompts; nats, shape (S,)."""
        prompts = self._unlabelled(self.known.instance.target).totals
        return worst(self.known.kls, fitted(self.rewards, prompts, self.known.differs.max((-1, -2))))


def families() -> dict[str, FiniteClass]:
    """Finite classes: easy, random, log-linear, and one whose members differ where μ hardly looks."""
    gentle = np.array([[0.5, 0.5], [0.6, 0.4], [0.45, 0.55]])
    two = random_instance(1, vocab=4, contexts=3, features=2, realizable=True)
    return {
        "two responses": scattered(Instance(gentle, gentle), 32, 0.3, seed=1),
        "random": scattered(random_instance(0, vocab=4, contexts=3), 64, 0.3, seed=1),
        "log-linear grid": grid(two, 9, 0.25),
        "rare responses": menu(with_coverage(random_instance(0, vocab=4, contexts=3), 100), 1.0),
    }


def violated(found: Array, bounds: Mapping[float, float]) -> dict[str, list[float]]:
    """How often an error exceeded the bound of each δ, with the ends of its 99 % Wilson interval."""
    counts = [int((found > bound).sum()) for bound in bounds.values()]
    shares = [proportion(count, len(found), confidence=CONFIDENCE) for count in counts]
    parts = {"frequency": "value", "at_least": "low", "at_most": "high"}
    return {name: [getattr(share, end) for share in shares] for name, end in parts.items()}


def kept(shares: Mapping[str, list[float]]) -> bool:
    """Whether every violation frequency is below its δ with its whole interval."""
    return all(high <= delta for high, delta in zip(shares["at_most"], DELTAS, strict=True))


def slack(found: Array, bounds: Mapping[float, float], delta: float = 0.05) -> float:
    """The bound over the error that is exceeded with probability δ; infinite where that error is 0 but for rounding."""
    quantile = float(np.quantile(found, 1 - delta, method="higher"))
    return bounds[delta] / quantile if quantile > NOTHING else float("inf")

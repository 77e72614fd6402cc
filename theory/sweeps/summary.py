"""A sweep in a few lines: slope, floor and efficiency of every method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.instances.tabular import Array
from theory.statistics.rates import Interval, mean, slope

# What tells two settings of one method apart, beside the method's name.
CONFIGURATION = ("beta_rule", "reward_head", "oracle", "policy_class", "reward_class", "ridge")
DEFAULTS = {"reward_head": "separate", "oracle": "learned", "policy_class": "table", "reward_class": "table"}


# A floor below this (nats) is 0 to the precision of the solvers.
CONSISTENT = 1e-9
# An efficiency whose interval reaches this is called 1.
ATTAINED = 0.95


@dataclass(frozen=True)
class Curve:
    """Forward KL against n for one method.

    Attributes:
        label: the method, with what differs from the defaults.
        method: its name.
        n, forward_kl: one entry a data set, nats.
        floor: the population's forward KL, NaN if not computed.
    """

    label: str
    method: str
    n: Array
    forward_kl: Array
    floor: float
    finite: Array

    def by_size(self) -> dict[float, Array]:
        """The data sets at each n, increasing."""
        return {float(n): self.forward_kl[self.n == n] for n in np.unique(self.n)}


@dataclass(frozen=True)
class Line:
    """A method's line in the table that ends a sweep."""

    label: str
    slope: Interval
    slope_from: float
    floor: float
    smallest_n: float
    largest_n: float
    forward_kl: Interval
    efficiency: Interval
    finite: float

    @property
    def verdict(self) -> str:
        """What the numbers say: where it converges, and whether at the statistical limit."""
        if not np.isfinite(self.floor):
            return "floor unknown"
        if self.floor > CONSISTENT:
            return "stops at floor"
        attains = self.efficiency.high >= ATTAINED or self.efficiency.value >= ATTAINED
        return "efficient" if attains else "consistent"


def curves(rows: Iterable[Mapping[str, Any]]) -> list[Curve]:
    """Rows gathered by method and configuration, in the order they appear."""
    groups: dict[tuple[Any, ...], dict[Any, Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["method"], *(row[name] for name in CONFIGURATION), _fixed(row))
        # A data set stored twice (by versions that cut their chunks differently) counts once.
        groups.setdefault(key, {})[row["n"], row["seed"]] = row
    return [_curve(list(group.values()), _same_method(groups, key[0])) for key, group in groups.items()]


def _fixed(row: Mapping[str, Any]) -> str:
    """Hyperparameters that were fixed: rows that differ in them are different curves."""
    return "" if row["beta_rule"] != "fixed" else str(row["hyperparameters"])


def _same_method(groups: Mapping[tuple[Any, ...], Any], method: str) -> bool:
    return sum(key[0] == method for key in groups) > 1


def _curve(rows: list[Mapping[str, Any]], crowded: bool) -> Curve:
    first = rows[0]
    notes = [str(first[name]) for name, default in DEFAULTS.items() if first[name] != default]
    if crowded and first["beta_rule"] != "best":
        notes.append(_fixed(first) or str(first["beta_rule"]))
    label = f"{first['method']} ({', '.join(notes)})" if notes else str(first["method"])
    sampled = [row for row in rows if np.isfinite(row["n"])]
    limit = [row["forward_kl"] for row in rows if np.isinf(row["n"])]
    columns = (np.array([row[name] for row in sampled], dtype=float) for name in ("n", "forward_kl", "finite"))
    n, forward_kl, finite = columns
    return Curve(label, str(first["method"]), n, forward_kl, float(limit[0]) if limit else np.nan, finite)


def summarise(curve: Curve, constant: float | None) -> Line:
    """Slope over the upper half of the decades, floor, and efficiency c/(n·KL) at the largest n."""
    largest = float(curve.n.max())
    middle = float(np.sqrt(curve.n.min() * largest))
    upper = curve.n >= middle
    at_end = curve.forward_kl[curve.n == largest]
    error = mean(at_end)
    limits = [np.nan] * 3 if constant is None else [constant / (largest * kl) for kl in (error.value, error.high, error.low)]
    finite = curve.finite[curve.n == curve.n.min()]
    return Line(
        curve.label,
        slope(curve.n[upper], curve.forward_kl[upper]),
        float(curve.n[upper].min()),
        curve.floor,
        float(curve.n.min()),
        largest,
        error,
        Interval(*limits),
        float(np.nanmean(finite)) if np.isfinite(finite).any() else np.nan,
    )

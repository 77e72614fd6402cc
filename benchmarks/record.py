"""What a benchmark hands back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measure:
    """One measured number and its target.

    Attributes:
        name: what was measured.
        value, unit: the number; a ratio's unit is ``x``.
        target: what it is held against; None if it is only recorded.
        at_most: whether the target is an upper limit (else a lower one).
        lower_bound: the truth is at least ``value``: the slower side was stopped before its end.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = True
    lower_bound: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def plain(self) -> dict[str, Any]:
        """The measure in JSON's types."""
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True)
class Record:
    """A benchmark's result.

    Attributes:
        name: the module's name, which is what ``python -m benchmarks`` takes.
        what: what was run and how it was measured, for people.
        measures: the numbers that matter.
        details: sizes, repetitions and side measurements.
        reduced: sizes were reduced because the machine cannot run the full ones: no measurement, and not kept as one.
    """

    name: str
    what: str
    measures: tuple[Measure, ...]
    details: dict[str, Any] = field(default_factory=dict)
    reduced: bool = False

    def plain(self) -> dict[str, Any]:
        """The record in JSON's types."""
        return {"what": self.what, "measures": [measure.plain() for measure in self.measures], "details": self.details}

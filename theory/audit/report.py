"""What an audit says: findings, tables and pictures as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# How a finding was reached.
EXACT = "exact"  # a closed form, a structural fact, or a solution with its certificate
NUMERICAL = "numerical"  # computed without a certificate that covers all cases
SAMPLED = "sampled"  # from random data sets, with a 95% interval


@dataclass(frozen=True)
class Finding:
    """One answered question.

    Attributes:
        id: ``section.question``, the same for every objective.
        question: in words.
        verdict: one or two words: yes, no, not decided, …
        answer: the numbers, in a sentence.
        family: the instances it was computed on.
        basis: `EXACT`, `NUMERICAL` or `SAMPLED`.
        numbers: the same numbers for programs.
    """

    id: str
    question: str
    verdict: str
    answer: str
    family: str
    basis: str
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows of values for people and programs; a number stays a number until it is printed."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Line:
    """One line of a picture, with a band where ``low`` and ``high`` are given."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Panel:
    """One picture as data.

    Attributes:
        levels: horizontal lines, label and height.
        takeaway: what it shows, in a sentence with its numbers.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_log: bool = False
    y_log: bool = False
    levels: Sequence[tuple[str, float]] = ()
    takeaway: str = ""


@dataclass(frozen=True)
class Section:
    """One group of questions."""

    name: str
    title: str
    findings: Sequence[Finding]
    tables: Sequence[Table] = ()
    panels: Sequence[Panel] = ()

    def finding(self, id: str) -> Finding | None:
        """The finding called ``id``, or None."""
        return next((f for f in self.findings if f.id == id), None)


def yes(condition: bool | None) -> str:
    """A verdict in words; None is not decided."""
    return "not decided" if condition is None else "yes" if condition else "no"

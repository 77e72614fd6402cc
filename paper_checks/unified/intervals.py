"""Proofs by interval arithmetic: a sign that holds at every point of a range, not at sampled ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mpmath import iv

# Halvings of the range before a piece counts as undecided.
DEPTH = 40


@dataclass(frozen=True)
class Cover:
    """A range cut into pieces on each of which interval arithmetic decides the sign.

    Attributes:
        proved: the function is positive at every point of the range.
        pieces: how many pieces that took.
        least: a lower bound of the function over the range, as rigorous as the proof.
        stuck: the left end of a piece where the sign stayed undecided, or None.
    """

    proved: bool
    pieces: int
    least: float
    stuck: float | None = None


def positive(function: Callable[[Any], Any], low: float, high: float) -> Cover:
    """Prove ``function`` > 0 on [low, high] by bisection.

    Args:
        function: from mpmath intervals to mpmath intervals, built from rigorous operations.
        low, high: ends of the range, floats.
    """
    waiting, pieces, least = [(low, high, 0)], 0, float("inf")
    while waiting:
        left, right, depth = waiting.pop()
        bound = float(function(iv.mpf([left, right])).a)
        if bound > 0:
            pieces, least = pieces + 1, min(least, bound)
        elif depth == DEPTH:
            return Cover(False, pieces, bound, left)
        else:
            middle = (left + right) / 2
            waiting += [(middle, right, depth + 1), (left, middle, depth + 1)]
    return Cover(True, pieces, least)


def power_series(coefficients: Sequence[Fraction], tail: float) -> Callable[[Any], Any]:
    """Σ_k coefficients[k]·uᵏ ± tail as a function of intervals.

    Args:
        coefficients: exact, lowest power first.
        tail: a bound of the terms left out, over the range where the function is used.
    """
    exact = [iv.mpf(c.numerator) / c.denominator for c in coefficients]

    def evaluate(u: Any) -> Any:
        total = iv.mpf(0)
        for c in reversed(exact):
            total = total * u + c
        return total + iv.mpf([-tail, tail])

    return evaluate

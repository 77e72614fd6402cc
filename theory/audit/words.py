"""Numbers in words, for findings."""

from __future__ import annotations

from theory.audit.subject import ZERO
from theory.statistics.rates import Interval


def nats(value: float) -> str:
    """Three digits; what rounding leaves of zero is zero.

    >>> nats(0.12345), nats(-2e-16)
    ('0.123', '0')
    """
    return "0" if abs(value) <= ZERO else f"{value:.3g}"


def within(interval: Interval) -> str:
    """An estimate with its interval, each to three digits.

    >>> within(Interval(0.5, 0.25, 0.75))
    '0.5 [0.25, 0.75]'
    """
    return f"{nats(interval.value)} [{nats(interval.low)}, {nats(interval.high)}]"


def two(value: float) -> str:
    """Two decimals, and no minus before zero.

    >>> two(-0.001)
    '0.00'
    """
    return f"{round(value, 2) + 0.0:.2f}"

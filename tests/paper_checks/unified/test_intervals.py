import math
from fractions import Fraction

import pytest
from mpmath import iv

from paper_checks.unified.intervals import positive, power_series


def test_a_positive_function_is_proved_and_bounded_from_below():
    cover = positive(lambda u: u * u - u + 1, -3.0, 3.0)  # least value ¾ at ½
    assert cover.proved
    assert 0 < cover.least <= 0.75


@pytest.mark.parametrize("level", [0.01, 1e-8])
def test_a_violation_however_short_is_not_proved_away(level):
    cover = positive(lambda u: u * u - level, -1.0, 1.0)
    assert not cover.proved
    assert abs(cover.stuck) <= math.sqrt(level) * 1.001


def test_touching_zero_is_not_positive():
    assert not positive(lambda u: u * u, -1.0, 1.0).proved


def test_series_encloses_the_exponential():
    series = power_series([Fraction(1, math.factorial(k)) for k in range(10)], tail=2 * 2.0**10 / math.factorial(10))
    for u in (-2.0, -0.3, 0.0, 1.7, 2.0):
        value = series(iv.mpf(u))
        assert float(value.a) <= math.exp(u) <= float(value.b)
        assert float(value.b) - float(value.a) < 4.1 * 2.0**10 / math.factorial(10)

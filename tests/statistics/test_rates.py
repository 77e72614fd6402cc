"""Slopes, means and proportions with their intervals: exact cases, formulas and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from theory.statistics.rates import Interval, mean, proportion, slope

NAN = Interval(np.nan, np.nan, np.nan)


def _is_nan(interval: Interval) -> bool:
    return bool(np.isnan([interval.value, interval.low, interval.high]).all())


def test_a_power_law_is_recovered_exactly():
    n = np.geomspace(10, 1e6, 8)
    found = slope(n, 3.7 * n**-1.25)
    assert found.value == pytest.approx(-1.25, abs=1e-12)
    assert found.high - found.low < 1e-6


def test_slope_by_the_normal_equations():
    rng = np.random.default_rng(0)
    n = np.repeat([10.0, 100.0, 1000.0], 5)
    error = n**-1.0 * np.exp(0.3 * rng.standard_normal(15))
    x = np.stack([np.ones(15), np.log(n)], 1)
    beta, residual = np.linalg.lstsq(x, np.log(error), rcond=None)[:2]
    half = stats.t.ppf(0.95, 13) * np.sqrt(residual[0] / 13 * np.linalg.inv(x.T @ x)[1, 1])
    found = slope(n, error, confidence=0.9)
    assert found.value == pytest.approx(beta[1], rel=1e-12)
    assert (found.low, found.high) == pytest.approx((beta[1] - half, beta[1] + half), rel=1e-10)


def test_the_interval_covers_as_often_as_it_says():
    """2,000 repetitions at 90 %: the count is binomial, and five deviations are a false alarm of 6e-7."""
    rng = np.random.default_rng(1)
    n = np.repeat([1e2, 1e3, 1e4], 4)
    covered = 0
    for _ in range(2_000):
        found = slope(n, n**-0.7 * np.exp(0.5 * rng.standard_normal(12)), confidence=0.9)
        covered += found.low <= -0.7 <= found.high
    assert abs(covered - 1_800) < 5 * np.sqrt(2_000 * 0.9 * 0.1)


def test_points_that_cannot_be_used_are_left_out():
    n = np.array([10.0, 100.0, 1000.0, np.inf, 1e5, 1e6])
    error = np.array([0.1, 0.01, 0.001, 1e-9, 0.0, np.inf])
    assert slope(n, error).value == pytest.approx(-1, abs=1e-12)
    assert _is_nan(slope(n[:1], error[:1]))
    assert _is_nan(slope(np.full(5, 10.0), np.arange(1.0, 6.0)))
    assert _is_nan(slope(n, np.full(6, np.nan)))


def test_two_points_have_a_slope_and_no_interval():
    found = slope(np.array([10.0, 1000.0]), np.array([1.0, 0.01]))
    assert found.value == pytest.approx(-1)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_mean():
    values = np.random.default_rng(0).standard_normal(20) + 3
    found = mean(values, confidence=0.9)
    low, high = stats.t.interval(0.9, 19, loc=values.mean(), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high), rel=1e-12)
    with_bad = mean(np.append(values, [np.nan, np.inf]), confidence=0.9)
    assert with_bad == found
    assert _is_nan(mean(np.array([])))
    single = mean(np.array([2.0]))
    assert single.value == 2
    assert np.isnan([single.low, single.high]).all()


def test_proportion_is_wilsons():
    successes, trials, z = 7, 40, stats.norm.ppf(0.975)
    p = successes / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    found = proportion(successes, trials)
    assert (found.value, found.low, found.high) == pytest.approx((p, centre - half, centre + half), rel=1e-9)
    assert proportion(0, 10).low == pytest.approx(0, abs=1e-12)
    assert proportion(10, 10).high == pytest.approx(1, abs=1e-12)

import math

import numpy as np
import pytest
import sympy as sp
from scipy.optimize import minimize
from scipy.stats import entropy

from paper_checks.claims import Verdict
from paper_checks.unified import inequalities as checks
from paper_checks.unified.kernels import ratio


def test_sigmoid_constant_by_brute_force():
    t = np.linspace(-40, 40, 80_001)
    slope = 1 / (np.exp(t / 2) + np.exp(-t / 2)) ** 2
    assert float(checks.largest_sigmoid_constant()) == pytest.approx((slope * np.exp(np.abs(t))).min(), rel=1e-12)


@pytest.mark.parametrize("bound", [0.5, 3.0])
def test_least_slope_on_the_grid_approaches_the_slope_at_the_end(bound):
    exact = math.exp(-bound) / (1 + math.exp(-bound)) ** 2
    assert exact < checks.least_slope(bound, 801) < exact * 1.01


def test_a_smaller_constant_would_break_lemma_8(monkeypatch):
    monkeypatch.setattr(checks, "largest_sigmoid_constant", lambda: sp.Rational(1, 5))
    assert checks.sigmoid_separates().verdict is Verdict.FAILS


@pytest.mark.parametrize(("check", "sign"), [(checks.upper_quadratic, 1), (checks.lower_quadratic, -1)])
def test_quadratic_constants_are_sharp(check, sign):
    for name, constant in check().evidence["sharp_constants"].items():
        bound = float(name[2:])
        t = np.linspace(-bound - 30, bound, 20_001) if sign > 0 else np.linspace(-bound, 30, 20_001)
        t = t[np.abs(t) > 1e-3]
        value = (np.expm1(t) - t) / t**2
        assert (value.max() if sign > 0 else value.min()) == pytest.approx(constant, rel=1e-9)


def test_an_unproved_step_changes_the_verdict(monkeypatch):
    monkeypatch.setattr(checks, "phi_increases", lambda: {"integral_form": False})
    assert checks.upper_quadratic().verdict is Verdict.FAILS
    assert checks.lower_quadratic().verdict is Verdict.FAILS


def test_kl_over_square_by_direct_computing():
    p, g = 0.3, 2.0
    target = np.array([1 - p, p])
    policy = target * np.array([1.0, math.exp(g)])
    assert checks.kl_over_square(p, g) == pytest.approx(entropy(target, policy / policy.sum()) / (p * g**2), rel=1e-12)


def test_two_point_ratio_by_direct_computing():
    p, t = np.array([0.9, 0.1]), 1.5
    q = np.array([1 - 0.1 * math.exp(t), 0.1 * math.exp(t)])
    assert checks.two_point_ratio(t, 0.1) == pytest.approx(entropy(q, p) / entropy(p, q), rel=1e-12)


def test_random_pairs_stay_within_their_bound_and_come_near_it():
    ratios = checks.extreme_ratios(2.0, draws=500)
    assert ratio(-2.0) < ratios.min() < 0.75
    assert 1.4 < ratios.max() < ratio(2.0)


def test_an_optimiser_finds_no_pair_beyond_proposition_15():
    bound = 1.5

    def score(x):
        p = np.exp(x[:3]) / np.exp(x[:3]).sum()
        log_ratio = bound * np.tanh(x[3:])
        log_ratio = log_ratio - math.log(p @ np.exp(log_ratio))
        if np.abs(log_ratio).max() > bound or np.abs(log_ratio).max() < 1e-3:
            return 0.0
        forward, backward = p @ (np.expm1(log_ratio) - log_ratio), p @ (log_ratio * np.exp(log_ratio) - np.expm1(log_ratio))
        return -backward / forward

    rng = np.random.default_rng(0)
    best = max(-minimize(score, rng.normal(size=6), method="Nelder-Mead").fun for _ in range(8))
    assert 0.95 * ratio(bound) < best <= ratio(bound) * (1 + 1e-9)


def test_linear_bound_by_brute_force():
    t = np.geomspace(1e-3, 60, 500)
    values = np.array([ratio(x) for x in t])
    assert (values <= 1 + t).all()
    assert values[-1] > t[-1] - 1.001  # and no slope below 1 would do
    assert checks.linear_bound_proved()


def test_without_the_linear_bound_the_exponential_constant_stands(monkeypatch):
    monkeypatch.setattr(checks, "linear_bound_proved", lambda: False)
    assert checks.comparison_constant().verdict is Verdict.HOLDS


def test_identities_of_the_proof_by_numbers():
    rng = np.random.default_rng(0)
    p, g = rng.dirichlet(np.ones(5)), rng.normal(size=5)
    policy = p * np.exp(g) / (p @ np.exp(g))
    assert entropy(p, policy) == pytest.approx(math.log(p @ np.exp(g)) - p @ g, rel=1e-12)
    assert p @ (g - p @ g) ** 2 == pytest.approx(np.einsum("i,j,ij", p, p, (g[:, None] - g) ** 2) / 2, rel=1e-12)
    assert all(checks.identities_of_the_proof().values())

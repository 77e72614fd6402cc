"""Asymptotic constants of restricted classes: closed forms, the table as a special case, and the delta method by differences."""

import numpy as np
import pytest

from paper_checks.unified import limits
from theory.instances import Instance, random_instance
from theory.statistics.coverage import coverage_log_linear, coverage_table
from theory.statistics.efficiency import asymptotic_constant, information


def _one_context(vocab: int = 4, seed: int = 3) -> Instance:
    base, rng = random_instance(seed, vocab=vocab, contexts=1), np.random.default_rng(seed)
    return Instance(base.target, base.reference, rng.dirichlet(np.ones(vocab), 1), gamma=1.7)


def test_all_directions_are_the_table():
    instance = _one_context()
    features = np.random.default_rng(0).standard_normal((1, 4, 3))
    expected = asymptotic_constant(instance)
    assert limits.class_constant(instance, features) == pytest.approx(expected, rel=1e-9)
    for weight in (information(instance), limits.covariance(instance.target)):
        assert limits.projected_constant(instance, features, weight) == pytest.approx(expected, rel=1e-9)
    assert limits.variance_coverage(instance, features) == pytest.approx(limits.variance_coverage(instance), rel=1e-9)


def test_one_feature_by_hand():
    """d = 1: variance of w is 1/(φᵀIφ), and KL ≈ ½ Var_{π*}(φ)·variance."""
    instance = _one_context()
    phi, mu, target, gamma = np.array([0.0, 1.0, 3.0, -1.0]), instance.data_policy[0], instance.target[0], instance.gamma
    fisher = 0.0
    for i in range(4):
        for j in range(4):
            odds = (target[i] / target[j]) ** gamma
            fisher += mu[i] * mu[j] * gamma**2 * odds / (1 + odds) ** 2 * (phi[i] - phi[j]) ** 2
    variance = target @ phi**2 - (target @ phi) ** 2
    assert limits.class_constant(instance, phi[None, :, None]) == pytest.approx(variance / fisher / 2, rel=1e-12)


def test_no_weight_beats_the_information():
    instance = random_instance(0, vocab=6, contexts=3, features=2, realizable=True)
    best = limits.class_constant(instance, instance.features)
    assert limits.projected_constant(instance, instance.features, information(instance)) == pytest.approx(best, rel=1e-9)
    for seed in range(5):
        root = np.random.default_rng(seed).standard_normal((3, 6, 6))
        root -= root.mean(-1, keepdims=True)
        assert limits.projected_constant(instance, instance.features, root.swapaxes(1, 2) @ root) >= best


def test_preference_constant_with_two_responses():
    """V = 2: n·2μ₁μ₂·Var(σ̂) = p(1 − p) in each context, whatever μ and γ."""
    target, data = np.array([[0.8, 0.2], [0.5, 0.5]]), np.array([[0.3, 0.7], [0.9, 0.1]])
    instance = Instance(target, target, data, np.array([0.2, 0.8]), 1.3)
    win = instance.win_probability()[:, 0, 1]
    assert limits.preference_constant(instance) == pytest.approx((win * (1 - win)).sum(), rel=1e-10)


def test_variance_coverage_with_two_responses():
    p, m = 0.9, 0.2
    instance = Instance(np.array([[p, 1 - p]]), np.array([[m, 1 - m]]))
    assert limits.variance_coverage(instance) == pytest.approx(p * (1 - p) / (m * (1 - m)), rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_on_the_constant(seed):
    base, rng = random_instance(seed, vocab=5, contexts=3, features=2), np.random.default_rng(seed)
    instance = Instance(base.target, base.reference, rng.dirichlet(np.ones(5), 3), gamma=0.8, features=base.features)
    for features, constant, full, size in (
        (None, asymptotic_constant(instance), coverage_table(instance), 12),
        (
            instance.features,
            limits.class_constant(instance, instance.features),
            coverage_log_linear(instance, instance.features),
            2,
        ),
    ):
        own = limits.variance_coverage(instance, features)
        over_lower, over_upper = limits.sandwiched(instance, constant, own, size)
        assert over_lower >= 1 >= over_upper
        assert own <= full * (1 + 1e-9)


def test_variance_coverage_is_attained_by_no_less():
    instance = random_instance(1, vocab=5, contexts=3, features=3)
    best = limits.variance_coverage(instance, instance.features)
    ratios = []
    for w in np.random.default_rng(0).standard_normal((2_000, 3)):
        f = instance.features @ w
        top, bottom = (((p * f**2).sum(1) - (p * f).sum(1) ** 2).sum() for p in (instance.target, instance.data_policy))
        ratios.append(top / bottom)
    assert 0.98 * best <= max(ratios) <= best * (1 + 1e-12)


def test_a_rate_is_measured():
    rng = np.random.default_rng(0)
    found = limits.rate(lambda n: 5 / n * rng.chisquare(10, 300) / 10, 5.0, (10**3, 10**4))
    assert limits.regular(found)
    assert not limits.regular(limits.rate(lambda n: 5 / n * rng.chisquare(10, 300) / 10, 6.0, (10**3, 10**4)))
    assert not limits.regular(limits.rate(lambda n: n**-0.5 * rng.chisquare(10, 300) / 10, 100.0, (10**3, 10**4)))

"""Coverage coefficients: exact small cases, and the supremum approached from below by search."""

import numpy as np
import pytest
from scipy.optimize import minimize

from theory.instances import Instance, random_instance
from theory.statistics.coverage import coverage_finite, coverage_log_linear, coverage_table


def _ratio(instance: Instance, f: np.ndarray) -> float:
    """E_{π*}[f̄²]/E_μ[f̄²], f̄ = f − E_μ[f|x], by loops; f of shape (X, V)."""
    top = bottom = 0.0
    for x, rho in enumerate(instance.context_weights):
        mean = sum(m * v for m, v in zip(instance.data_policy[x], f[x], strict=True))
        for p, m, v in zip(instance.target[x], instance.data_policy[x], f[x], strict=True):
            top += rho * p * (v - mean) ** 2
            bottom += rho * m * (v - mean) ** 2
    return top / bottom


def _best_ratio(instance: Instance, features: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The largest of 500 random directions, and what BFGS makes of the best of them."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((500, features.shape[-1]))
    ratios = [_ratio(instance, features @ w) for w in directions]
    found = minimize(lambda w: -_ratio(instance, features @ w), directions[int(np.argmax(ratios))], method="BFGS")
    return max(ratios), -found.fun


def _uneven(vocab: int = 4, contexts: int = 3) -> Instance:
    base, rng = random_instance(2, vocab=vocab, contexts=contexts), np.random.default_rng(4)
    mu, rho = rng.dirichlet(np.full(vocab, 2.0), contexts), rng.dirichlet(np.full(contexts, 5.0))
    return Instance(base.target, base.reference, mu, rho, 1.3)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_log_linear_is_the_supremum_over_directions(size):
    instance = _uneven()
    features = np.random.default_rng(size).standard_normal((3, 4, size))
    found = coverage_log_linear(instance, features)
    sampled, climbed = _best_ratio(instance, features)
    assert sampled <= found * (1 + 1e-9)
    assert climbed == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_table_is_the_worst_context(seed):
    instance = random_instance(seed, vocab=3, contexts=2, ref_noise=1.5)
    per_context = []
    for x in range(2):
        alone = Instance(instance.target[[x]], instance.reference[[x]])
        per_context.append(_best_ratio(alone, np.eye(3)[None])[1])
    assert coverage_table(instance) == pytest.approx(max(per_context), rel=1e-5)


def test_one_where_the_data_policy_is_the_target():
    base = random_instance(3, vocab=5, contexts=4)
    instance = Instance(base.target, base.reference, base.target)
    assert coverage_table(instance) == pytest.approx(1, rel=1e-9)
    assert coverage_log_linear(instance, np.random.default_rng(0).standard_normal((4, 5, 3))) == pytest.approx(1, rel=1e-9)
    others = np.random.default_rng(1).dirichlet(np.ones(5), (6, 4))
    assert coverage_finite(instance, others) == pytest.approx(1, rel=1e-9)


def test_two_responses_by_hand():
    """V = 2: f̄ is (1 − m, −m) up to scale, so C = [p(1−m)² + (1−p)m²]/[m(1−m)]."""
    p, m = 0.9, 0.2
    instance = Instance(np.array([[p, 1 - p]]), np.array([[0.5, 0.5]]), np.array([[m, 1 - m]]))
    expected = (p * (1 - m) ** 2 + (1 - p) * m**2) / (m * (1 - m))
    assert coverage_table(instance) == pytest.approx(expected, rel=1e-12)
    assert coverage_log_linear(instance, np.array([[[2.0], [-1.0]]])) == pytest.approx(expected, rel=1e-12)
    assert coverage_finite(instance, np.array([[[0.3, 0.7]]])) == pytest.approx(expected, rel=1e-12)


def test_a_finite_class_is_its_largest_member():
    instance = _uneven()
    policies = np.random.default_rng(5).dirichlet(np.ones(4), (7, 3))
    expected = max(_ratio(instance, np.log(p) - np.log(instance.target)) for p in policies)
    assert coverage_finite(instance, policies) == pytest.approx(expected, rel=1e-10)
    with_target = np.concatenate([policies, instance.target[None]])
    assert coverage_finite(instance, with_target) == pytest.approx(expected, rel=1e-10)
    assert np.isnan(coverage_finite(instance, instance.target[None]))


def test_order_of_the_classes():
    """A class inside another cannot need more coverage."""
    instance = _uneven()
    features = np.random.default_rng(6).standard_normal((3, 4, 3))
    coefficients = [coverage_log_linear(instance, features[..., :d]) for d in (1, 2, 3)]
    assert coefficients == sorted(coefficients)
    assert coefficients[-1] <= coverage_table(instance) * (1 + 1e-9)


def test_directions_that_change_no_preference_do_not_count():
    """A feature that is constant in every context moves no policy; neither does a repeated one."""
    instance = _uneven()
    features = np.random.default_rng(6).standard_normal((3, 4, 2))
    constant = np.broadcast_to(np.array([1.0, -2.0, 0.5])[:, None, None], (3, 4, 1))
    expected = coverage_log_linear(instance, features)
    assert coverage_log_linear(instance, np.concatenate([features, constant], -1)) == pytest.approx(expected, rel=1e-7)
    assert coverage_log_linear(instance, np.concatenate([features, features[..., :1]], -1)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("rare", [1e-3, 1e-6, 1e-13, 1e-15])
def test_a_response_that_the_data_hardly_hold(rare):
    """With μ_y → 0 the indicator of y alone decides: C → π*_y/μ_y."""
    instance = Instance(np.array([[0.4, 0.3, 0.2, 0.1]]), np.array([[0.5, 0.3, 0.2 - rare, rare]]))
    assert coverage_table(instance) == pytest.approx(0.1 / rare, rel=2e-3)

"""The asymptotic constant: by pseudo-inverses, by the delta method from score vectors, and by simulation."""

import math

import numpy as np
import pytest

from theory.errors import UserError
from theory.instances import Instance, random_instance
from theory.objectives import get
from theory.sampling import draw
from theory.simulation import Settings, make_task, solve
from theory.solvers.options import Options
from theory.statistics.efficiency import asymptotic_constant, efficiency, information


def _uneven(vocab: int = 5, contexts: int = 3, gamma: float = 1.6) -> Instance:
    base, rng = random_instance(2, vocab=vocab, contexts=contexts), np.random.default_rng(4)
    mu, rho = rng.dirichlet(np.full(vocab, 3.0), contexts), rng.dirichlet(np.full(contexts, 5.0))
    return Instance(base.target, base.reference, mu, rho, gamma)


def _information(instance: Instance, x: int) -> np.ndarray:
    """E[s sᵀ] of the score s of one labelled draw, over every ordered draw and label."""
    total = np.zeros((instance.vocab, instance.vocab))
    for i, a in enumerate(instance.data_policy[x]):
        for j, b in enumerate(instance.data_policy[x]):
            if i == j:
                continue
            odds = (instance.target[x, i] / instance.target[x, j]) ** instance.gamma
            p = odds / (1 + odds)
            direction = np.zeros(instance.vocab)
            direction[i], direction[j] = instance.gamma, -instance.gamma
            for probability, slope in ((p, 1 - p), (1 - p, -p)):
                total += a * b * probability * slope**2 * np.outer(direction, direction)
    return total


def test_information_is_the_variance_of_the_score():
    instance = _uneven()
    found = information(instance)
    for x in range(instance.contexts):
        np.testing.assert_allclose(found[x], _information(instance, x), rtol=1e-12)


@pytest.mark.parametrize("instance", [_uneven(), _uneven(2, 1), random_instance(0), random_instance(1, gamma=0.3, ref_noise=2)])
def test_the_constant_by_pseudo_inverse(instance):
    expected = 0.0
    for x in range(instance.contexts):
        p = instance.target[x]
        expected += np.trace(np.linalg.pinv(_information(instance, x)) @ (np.diag(p) - np.outer(p, p))) / 2
    assert asymptotic_constant(instance) == pytest.approx(expected, rel=1e-9)


def test_two_responses_by_hand():
    """V = 2: the log-odds has variance 1/(γ² 2μ₁μ₂ σ'(γΔ)), and KL ≈ ½ p(1 − p)·variance."""
    p, mu, gamma = 0.8, 0.3, 1.5
    instance = Instance(np.array([[p, 1 - p]]), np.array([[mu, 1 - mu]]), gamma=gamma)
    win = 1 / (1 + ((1 - p) / p) ** gamma)
    expected = p * (1 - p) / 2 / (gamma**2 * 2 * mu * (1 - mu) * win * (1 - win))
    assert asymptotic_constant(instance) == pytest.approx(expected, rel=1e-12)


def test_weights_cancel_and_contexts_add():
    one, two = random_instance(1, contexts=1), random_instance(2, contexts=1)
    rows = [np.concatenate([getattr(i, name) for i in (one, two)]) for name in ("target", "reference")]
    for rho in ([0.5, 0.5], [0.1, 0.9]):
        both = Instance(*rows, context_weights=np.array(rho))
        assert asymptotic_constant(both) == pytest.approx(asymptotic_constant(one) + asymptotic_constant(two), rel=1e-12)


def test_simulation_attains_it():
    """n·KL of the reward MLE over 400 data sets; four standard errors, a false alarm of 6e-5 (fixed seed)."""
    instance = _uneven(4, 2)
    n, settings = 10**6, Settings(get("pmle"), {"beta": 0.0}, "fixed", Options(ridge=0.0))
    outcome = solve(instance, make_task(instance, draw(instance, n, 5, range(400)), settings), settings)
    scaled = n * outcome.forward_kl
    error = scaled.std(ddof=1) / np.sqrt(len(scaled))
    assert abs(scaled.mean() - asymptotic_constant(instance)) < 4 * error
    assert error < 0.05 * asymptotic_constant(instance)


def test_efficiency():
    assert efficiency(3.0, 100, 0.03) == pytest.approx(1)
    assert efficiency(3.0, 100, 0.3) == pytest.approx(0.1)
    assert math.isnan(efficiency(3.0, math.inf, 0.1))
    assert math.isnan(efficiency(3.0, 100, 0.0))


def test_too_large_a_table_is_refused():
    with pytest.raises(UserError, match=r"--vocab 2001: .*up to V = 2000"):
        asymptotic_constant(random_instance(0, vocab=2_001, contexts=1))

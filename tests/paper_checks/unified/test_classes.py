"""Finite classes: errors, likelihoods and second stages by loops, and by hand."""

import math

import numpy as np
import pytest

from paper_checks.unified.classes import FiniteClass, fitted, grid, menu, preference_errors, scattered, worst
from theory.instances import Instance, random_instance
from theory.sampling import WinCounts, draw


def _uneven() -> Instance:
    base, rng = random_instance(2, vocab=3, contexts=2), np.random.default_rng(4)
    return Instance(base.target, base.reference, rng.dirichlet(np.ones(3), 2), np.array([0.3, 0.7]), 1.4)


def _sigmoid(policy, gamma, x, i, j):
    return 1 / (1 + (policy[x, j] / policy[x, i]) ** gamma)


def test_errors_and_divergences_by_loops():
    instance = _uneven()
    known = scattered(instance, 8, 0.7, seed=3)
    for policy, error, kl in zip(known.policies, known.errors, known.kls, strict=True):
        expected = divergence = 0.0
        for x, rho in enumerate(instance.context_weights):
            for i in range(3):
                p = instance.target[x, i]
                divergence += rho * p * math.log(p / policy[x, i])
                for j in range(3):
                    gap = _sigmoid(policy, 1.4, x, i, j) - _sigmoid(instance.target, 1.4, x, i, j)
                    expected += rho * instance.data_policy[x, i] * instance.data_policy[x, j] * gap**2
        assert error == pytest.approx(expected, abs=1e-15)
        assert kl == pytest.approx(divergence, abs=1e-14)


def test_errors_ignore_the_normaliser():
    instance = _uneven()
    logp = np.log(np.random.default_rng(0).dirichlet(np.ones(3), (4, 2)))
    np.testing.assert_allclose(preference_errors(instance, logp + 3.0), preference_errors(instance, logp), rtol=1e-12)


def test_the_most_likely_member_by_loops():
    instance = _uneven()
    known, data = scattered(instance, 9, 0.7, seed=3), draw(instance, 40, 1, range(30))
    for wins, chosen in zip(data.wins, known.likely(data), strict=True):
        scores = []
        for policy in known.policies:
            cells = np.argwhere(wins > 0)
            scores.append(sum(wins[x, i, j] * math.log(_sigmoid(policy, 1.4, x, i, j)) for x, i, j in cells))
        assert list(np.flatnonzero(chosen)) == [int(np.argmax(scores))]


def test_ties_are_all_kept():
    instance = _uneven()
    known = scattered(instance, 5, 0.7, seed=3)
    doubled = FiniteClass(instance, np.concatenate([known.policies, known.policies[::-1]]), range(5))
    chosen = doubled.likely(draw(instance, 40, 1, range(20)))
    assert (chosen == chosen[:, ::-1]).all()
    assert (chosen.sum(1) == 2).all()
    nothing = WinCounts(np.zeros((1, 2, 3, 3)), np.ones((1, 2)), 2.0)
    assert known.likely(nothing).all()


def test_worst_is_the_largest_allowed():
    allowed = np.array([[True, True, False], [True, False, False]])
    np.testing.assert_array_equal(worst(np.array([0.1, 0.2, 0.9]), allowed), [0.2, 0.1])


def test_a_second_stage_keeps_what_agrees_on_what_was_seen():
    """Two rewards (0, 1), three policies; policy 2 differs from reward 0 at place 1 only."""
    differs = np.array([[[0, 0], [1, 1], [0, 1]], [[1, 1], [0, 0], [1, 1]]], dtype=float)
    likely = np.array([[True, False], [True, False], [False, True], [True, True]])
    seen = np.array([[5, 0], [5, 2], [1, 1], [0, 1]], dtype=float)
    expected = [[True, False, True], [True, False, False], [False, True, False], [True, True, False]]
    np.testing.assert_array_equal(fitted(likely, seen, differs), expected)


def test_where_members_differ():
    """One member has other odds for response 2 in context 1: pairs with that response differ, prompts with that context."""
    instance = _uneven()
    other = instance.target.copy()
    other[1] = np.array([other[1, 0], other[1, 1], 3 * other[1, 2]])
    other[1] /= other[1].sum()
    known = FiniteClass(instance, np.stack([instance.target, other]), range(1))
    mu = instance.data_policy[1, 2]
    np.testing.assert_allclose(known.differs_on_pairs(instance.data_policy), [[0, 0.7 * 2 * mu * (1 - mu)]], rtol=1e-12)
    np.testing.assert_allclose(known.differs_on_prompts(), [[0, 0.7]], rtol=1e-12)


def test_coverage_of_pairs_by_loops():
    instance = _uneven()
    known, base = scattered(instance, 6, 0.7, seed=3), np.random.default_rng(8).dirichlet(np.ones(3), 2)
    largest = 0.0
    for a in range(6):
        for b in range(a):
            f = instance.gamma * np.log(known.policies[a] / known.policies[b])
            f = f - (base * f).sum(1, keepdims=True)
            rho = instance.context_weights
            largest = max(largest, (rho @ (instance.target * f**2).sum(1)) / (rho @ (base * f**2).sum(1)))
    assert known.coverage_of_pairs(base) == pytest.approx(largest, rel=1e-10)
    assert known.coverage_of_pairs(instance.target) == pytest.approx(1, rel=1e-10)
    assert known.coverage <= known.coverage_of_pairs(instance.data_policy) * (1 + 1e-12)


@pytest.mark.parametrize(
    "known",
    [
        scattered(_uneven(), 12, 0.3, seed=1),
        grid(random_instance(1, vocab=4, contexts=3, features=2, realizable=True), 5, 0.25),
        menu(_uneven(), 1.0),
    ],
)
def test_classes_start_with_the_target_and_hold_no_member_twice(known):
    np.testing.assert_allclose(known.policies[0], known.instance.target, rtol=1e-12)
    np.testing.assert_allclose(known.policies.sum(-1), 1, rtol=1e-12)
    assert len(np.unique(known.policies.round(9).reshape(len(known), -1), axis=0)) == len(known)
    assert next(iter(known.rewards)) == 0
    assert 1 < len(known.rewards) < len(known)
    np.testing.assert_array_equal(known.subclass.policies, known.policies[: len(known.rewards)])


def test_rewards_of_the_menu_leave_the_rarest_response_alone():
    instance = _uneven()
    known = menu(instance, 1.0)
    rare, common = instance.data_policy.argmin(1), instance.data_policy.argmax(1)
    middle = 3 - rare - common
    rows = np.arange(2)
    odds = known.policies[:, rows, rare] / known.policies[:, rows, middle]
    moved = ~np.isclose(odds, odds[0]).all(1)
    assert not moved[list(known.rewards)].any()
    assert moved[len(known.rewards) :].all()

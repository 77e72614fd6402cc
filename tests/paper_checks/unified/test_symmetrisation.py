"""The enumeration behind Lemma 11: exact probabilities, and mutations of the bound that it must catch."""

import math

import numpy as np
import pytest

from paper_checks.unified.symmetrisation import World, disjoint_events, functionals, tightness, violation

TARGET, DATA = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
OTHERS = np.array([TARGET, [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])


def test_every_data_set_once_with_its_probability():
    world = World.of(TARGET, DATA, 2)
    assert world.sets.shape == (49, 2)
    assert len({tuple(row) for row in world.sets}) == 49
    assert world.probability.sum() == pytest.approx(1, abs=1e-14)
    # A tie, then 2 preferred to 0 (σ(log 0.2/0.5) = 2/7).
    place = next(k for k, (i, j) in enumerate(world.pairs) if (i, j) == (2, 0))
    which = np.flatnonzero((world.sets == (0, place)).all(1))[0]
    assert world.probability[which] == pytest.approx((0.04 + 0.09 + 0.25) * 2 * 0.5 * 0.2 * 2 / 7)


def test_log_ratios_by_loops():
    world = World.of(TARGET, DATA, 2)
    found = world.log_ratios(OTHERS)
    for k, policy in enumerate(OTHERS):
        for s, drawn in enumerate(world.sets):
            total = 0.0
            for i, j in world.pairs[drawn]:
                if i != j:
                    total += math.log(policy[i] / (policy[i] + policy[j])) - math.log(TARGET[i] / (TARGET[i] + TARGET[j]))
            assert found[k, s] == pytest.approx(total, abs=1e-12)


def test_the_full_likelihood_ratio_has_mean_one():
    """E exp Σ log q_π/q_* = 1, since it is a change of measure."""
    world = World.of(TARGET, DATA, 3)
    np.testing.assert_allclose((np.exp(world.log_ratios(OTHERS)) * world.probability).sum(1), 1, rtol=1e-12)


def test_each_member_has_mean_one():
    world = World.of(TARGET, DATA, 3)
    for functional in functionals(world, OTHERS, seed=0).values():
        np.testing.assert_allclose((np.exp(world.excess(functional)) * world.probability).sum(1), 1, rtol=1e-10)


def test_without_the_union_factor_the_bound_breaks():
    """log(1/δ) instead of log(|Π|/δ): six members with disjoint events break it with probability 6δ."""
    fair = World.of(np.array([0.5, 0.5]), np.array([0.5, 0.5]), 5)
    excess = fair.excess(disjoint_events(fair, 6, each=5))
    each = 1 / math.exp(excess.max())
    assert violation(fair, excess, math.log(0.999 / each)) == pytest.approx(6 * each)


def test_the_constant_is_attained():
    found = tightness()
    assert found["violation_at_|Π|/δ"] == 0
    assert found["violation_at_0.999·|Π|/δ"] == pytest.approx(found["delta"], rel=1e-12)

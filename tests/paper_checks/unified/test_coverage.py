"""The machinery of Definition 3's check, and errors in a coefficient that it must notice."""

import numpy as np
import pytest

from paper_checks.unified import coverage
from theory.instances import random_instance
from theory.instances.mismatch import tilted, with_coverage
from theory.statistics.coverage import coverage_log_linear, coverage_table


def test_brute_force_comes_close_from_below():
    for share in coverage.brute_force(3).values():
        assert 1 - 1e-4 <= share <= 1 + 1e-9


@pytest.mark.parametrize("factor", [0.99, 1.01])
@pytest.mark.parametrize("name", ["coverage_log_linear", "coverage_table"])
def test_a_wrong_coefficient_fails(monkeypatch, name, factor):
    right = getattr(coverage, name)
    monkeypatch.setattr(coverage, name, lambda *args: factor * right(*args))
    assert coverage.definition().verdict == "fails"


def test_a_class_that_shares_features_by_hand():
    """The centred feature on three responses: as μ → (½, 0.3, 0.2) its mean is 0.7."""
    instance, features = coverage.unseen_response(1e-10)
    phi = np.array([0.0, 1.0, 2.0, 1.0]) - 0.7
    expected = (instance.target[0] @ phi**2) / (np.array([0.5, 0.3, 0.2]) @ phi[:3] ** 2)
    assert coverage_log_linear(instance, features) == pytest.approx(expected, rel=1e-8)


def test_members_are_policies_of_the_class():
    instance = random_instance(0, vocab=4, contexts=2, features=2)
    (policy,) = coverage.members(instance, instance.features, np.array([[0.5, -1.0]]))
    np.testing.assert_allclose(policy.sum(1), 1, rtol=1e-12)
    moved = np.log(policy) - np.log(instance.target) - instance.features @ np.array([0.5, -1.0])
    np.testing.assert_allclose(moved - moved[:, :1], 0, atol=1e-12)


@pytest.mark.parametrize("wanted", [1.0, 3.0, 1e4])
def test_tilting_reaches_a_coverage(wanted):
    assert coverage_table(with_coverage(random_instance(0, vocab=5, contexts=3), wanted)) == pytest.approx(wanted, rel=1e-6)


def test_tilts_by_hand():
    instance = random_instance(0, vocab=4, contexts=2)
    np.testing.assert_allclose(tilted(instance, 0).data_policy, instance.target, rtol=1e-12)
    np.testing.assert_allclose(tilted(instance, 1).data_policy, 0.25, rtol=1e-12)
    inverse = 1 / instance.target
    np.testing.assert_allclose(tilted(instance, 2).data_policy, inverse / inverse.sum(1, keepdims=True), rtol=1e-12)

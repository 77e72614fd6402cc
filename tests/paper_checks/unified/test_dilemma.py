import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import entropy

from paper_checks.claims import Verdict
from paper_checks.unified import dilemma
from theory.instances import Instance, random_instance


def test_rlhf_policy_by_hand():
    instance = Instance(np.array([[0.5, 0.5]]), np.array([[0.6, 0.4]]))
    found = dilemma.rlhf_policy(instance, torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), 0.5)[0, 0]
    assert float(found[0] - found[1]) == pytest.approx(math.log(1.5) + 2)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_least_error_by_a_convex_search_of_ones_own(seed):
    instance = random_instance(seed, vocab=4, contexts=3)

    def error(s):  # convex in s = γ/β
        policy = instance.reference * instance.target**s
        policy /= policy.sum(1, keepdims=True)
        return np.mean([entropy(p, q) for p, q in zip(instance.target, policy, strict=True)])

    found = minimize_scalar(error, bounds=(0, 50), method="bounded", options={"xatol": 1e-10})
    assert found.x > 0.01  # within the β that are searched, up to 100
    assert dilemma.least_error(instance) == pytest.approx(found.fun, rel=1e-5)


@pytest.mark.parametrize(("power", "exact"), [(0.0, True), (0.5, True), (-1.0, True), (1.5, False)])
def test_powers_of_the_target_below_one_are_the_exceptions(power, exact):
    assert (dilemma.least_error(dilemma.tempered_reference(random_instance(0), power)) < 1e-6) is exact


def test_a_reference_that_is_a_power_of_the_target_leaves_rlhf_no_floor(monkeypatch):
    monkeypatch.setattr(dilemma, "random_instance", lambda seed=0, **size: dilemma.tempered_reference(random_instance(seed), 0.0))
    assert dilemma.tuned_rlhf_is_inconsistent().verdict is Verdict.FAILS


def test_policies_by_hand():
    reference, reward = np.array([0.2, 0.8]), np.array([1.0, 0.0])
    rkl, rlhf = dilemma.policies(reference, reward, 0.5, 1.5, 4.0)
    assert rkl[0] / rkl[1] == pytest.approx(0.25**0.75 * math.exp(0.5))
    assert rlhf[0] / rlhf[1] == pytest.approx(0.25 * math.exp(0.25))


def test_follows_rarity():
    reference = np.array([0.1, 0.6, 0.3])
    assert dilemma.follows_rarity(reference, np.array([0.3, 0.3, 0.4]), np.array([0.1, 0.6, 0.3]))
    assert not dilemma.follows_rarity(reference, np.array([0.1, 0.2, 0.7]), np.array([0.1, 0.6, 0.3]))


def test_the_same_curve_for_both_methods_is_not_figure_one(monkeypatch):
    honest = dilemma.best_errors
    monkeypatch.setattr(dilemma, "best_errors", lambda method, *rest: honest("rlhf", *rest))
    assert dilemma.figure_one().verdict is Verdict.FAILS


def test_best_errors_are_not_above_a_fixed_beta():
    instance = random_instance(2, vocab=4, contexts=2)
    best = dilemma.best_errors("rlhf", instance, (1000.0,), 2)[0]
    assert (best <= dilemma.fitted("rlhf", instance, 1000.0, replicates=2, beta=1.0) + 1e-12).all()

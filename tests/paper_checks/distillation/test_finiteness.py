"""Existence by reachability, p-DPO on one pair by bisection, and violations that must be found."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from paper_checks.claims import Verdict
from paper_checks.distillation import finiteness, tables


def test_existence_against_reachability():
    """DPO has no minimiser iff somebody is beaten by one that he cannot reach back (Ford 1957), by brute force."""
    data = tables.label_patterns(4)
    reach = (data.wins[:, 0] > 0) | np.eye(4, dtype=bool)
    for k in range(4):
        reach |= reach[:, :, k : k + 1] & reach[:, k : k + 1, :]
    lost = ((data.wins[:, 0] > 0) & ~reach.transpose(0, 2, 1)).any((1, 2))
    found = tables.vanishing(tables.task_on(data, tables.random_policy(0, 1, 4)), "dpo", beta=0.1).any((1, 2))
    assert (lost == found).all()
    assert finiteness.dpo_overfits_and_ipo_does_not().evidence["dpo_without_finite_minimiser"] == lost.sum()


@pytest.mark.parametrize(("beta", "weight"), [(0.1, 0.1), (1.0, 1e-2), (10.0, 1e-3)])
def test_p_dpo_on_one_pair(beta, weight):
    """β σ(−βm) = λ (π_w − ref_w), solved by bisection."""
    log_ref = tables.random_policy(2, 1, 2)
    winner = float(log_ref[0, 0].exp())
    odds = np.log(winner / (1 - winner))
    by_hand = brentq(lambda m: beta * expit(-beta * m) - weight * (expit(odds + m) - winner), 0, 1e4)
    policy = tables.minimise(tables.task_on(tables.disjoint_pairs(1, 0), log_ref), "p-dpo", beta=beta, lambda_=weight)
    assert float(policy.fits[0].logp[0, 0, 0].exp()) == pytest.approx(expit(odds + by_hand), rel=1e-6)


def test_the_bound_is_the_level_set_of_the_penalty():
    """At the bound one response alone already costs log 2/λ."""
    log_ref, weight = tables.random_policy(0, 1, 4)[0], 0.3
    reference = log_ref.exp()
    for y, least in enumerate(finiteness.lower_bound(log_ref, weight)):
        others = torch.zeros(4, dtype=torch.float64)
        others[y] = least
        # Every other log-probability at its largest, 0, leaves KL(π_ref‖π) at its least.
        divergence = (reference * (log_ref - others)).sum()
        assert float(weight * divergence) == pytest.approx(np.log(2), rel=1e-12)


def test_a_tighter_bound_would_be_found_violated(monkeypatch):
    monkeypatch.setattr(finiteness, "lower_bound", lambda log_ref, weight: log_ref - 1.0)
    assert finiteness.pessimism_keeps_dpo_finite().verdict is Verdict.FAILS


def test_an_unpenalised_loss_would_be_found_infinite(monkeypatch):
    exact = tables.vanishing
    monkeypatch.setattr(tables, "vanishing", lambda task, name, **values: exact(task, "dpo", beta=values["beta"]))
    assert finiteness.distilled_policy_is_finite().verdict is Verdict.FAILS


def test_residual_sees_a_wrong_reward():
    data, log_ref, reward = tables.label_patterns(3), tables.random_policy(0, 1, 3), tables.random_reward(0, 1, 3)
    task = tables.task_on(data, log_ref, reward)
    assert finiteness._residual(task, reward, 0.5)[0] < 1e-9
    assert finiteness._residual(task, 2 * reward, 0.5)[0] > 0.1

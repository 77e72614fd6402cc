"""Projections against direct maximisation over policies, and violations that must be found."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from paper_checks.claims import Verdict
from paper_checks.distillation import pessimism, tables

BETA = 0.5


@pytest.fixture
def world():
    return pessimism._three_rewards(1)


def _policy(logits):
    return torch.log_softmax(torch.as_tensor(logits), -1)


def _best(value, log_ref, starts=4):
    """The largest value over policies, by direct search in the logits."""
    rng = np.random.default_rng(0)
    found = [
        minimize(lambda z: -value(_policy(z)), log_ref.numpy() + rng.standard_normal(len(log_ref)), method="SLSQP", tol=1e-12)
        for _ in range(starts)
    ]
    return max(-f.fun for f in found)


def test_distance_is_the_largest_gain(world):
    log_ref, rewards = world
    best = _best(lambda policy: pessimism.gain(policy, rewards[0], log_ref, BETA), log_ref)
    assert pessimism.distance(log_ref, rewards[0], BETA) == pytest.approx(best, abs=1e-6)


def test_gain_by_hand():
    log_ref = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    policy = torch.tensor([0.75, 0.25], dtype=torch.float64).log()
    reward = torch.tensor([2.0, 0.0], dtype=torch.float64)
    by_hand = 0.25 * 2 - 3 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert pessimism.gain(policy, reward, log_ref, 3.0) == pytest.approx(by_hand, rel=1e-12)


def test_hull_against_direct_maximisation_over_policies(world):
    """max over (π, t) of t subject to every reward's gain ≥ t."""
    log_ref, rewards = world
    within = [{"type": "ineq", "fun": lambda z, r=r: pessimism.gain(_policy(z[:-1]), r, log_ref, BETA) - z[-1]} for r in rewards]
    start = np.append(log_ref.numpy(), -1.0)
    direct = minimize(lambda z: -z[-1], start, constraints=within, method="SLSQP", options={"ftol": 1e-12, "maxiter": 500})
    mixed = torch.from_numpy(pessimism.project(log_ref, rewards, BETA)) @ rewards
    assert pessimism.distance(log_ref, mixed, BETA) == pytest.approx(-direct.fun, abs=1e-6)
    policy = pessimism.optimum(log_ref, mixed, BETA)
    torch.testing.assert_close(_policy(direct.x[:-1]).exp(), policy.exp(), rtol=0, atol=1e-3)


def test_ball_against_direct_maximisation_over_policies(world):
    log_ref, rewards = world
    shape = torch.diag(torch.linspace(0.2, 1.0, 6, dtype=torch.float64))

    def guaranteed(policy):
        least = float((shape @ (policy.exp() - log_ref.exp())).norm())
        return pessimism.gain(policy, rewards[0], log_ref, BETA) - least

    worst = pessimism.project_ball(log_ref, rewards[0], shape, BETA)
    assert pessimism.distance(log_ref, worst, BETA) == pytest.approx(_best(guaranteed, log_ref), abs=1e-5)


def test_a_policy_that_is_not_the_projection_would_be_found(monkeypatch):
    monkeypatch.setattr(pessimism, "project", lambda log_ref, rewards, beta: np.full(len(rewards), 1 / len(rewards)))
    assert pessimism.pessimistic_optimum_is_a_projection().verdict is Verdict.FAILS


def test_the_counterexample_by_hand():
    """At π = σ(1) for the first response, r = (0, 2) gains 2(½ − σ(1)) − KL(π‖½)."""
    p = 1 / (1 + np.exp(-1))
    divergence = p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))
    found = pessimism._opposed()
    assert found["its_worst_case_gain"] == pytest.approx(2 * (0.5 - p) - divergence, rel=1e-12)
    assert found["upper_bound"] == pytest.approx(0, abs=1e-9)


def test_path_is_monotone_and_skips_what_two_members_skip():
    log_ref = torch.tensor([0.1, 0.45, 0.45], dtype=torch.float64).log()
    first, second = (torch.tensor([[[a, 0.0, 0.0]]], dtype=torch.float64) for a in (4.0, -5.0))
    weights = np.geomspace(1e-2, 1e2, 21)
    both, one = (pessimism._PenaltyPath.of(log_ref, members, weights) for members in ([first, second] * 2, [second] * 3))
    for path in (both, one):
        assert (np.diff(path.loss) >= -1e-12).all()
        assert (np.diff(path.far) <= 1e-12).all()
    assert np.diff(both.first).max() > 0.2
    assert np.diff(one.first).max() < 0.05


def test_a_penalty_that_is_not_a_projection_would_be_found(monkeypatch):
    """Minimisers of a penalty ten times as large are not nearest to π_ref at their own loss under another objective."""
    exact = tables.minimise

    def off(task, name, **values):
        chosen = exact(task, name, **values)
        fit = chosen.fits[0]
        fit.logp = torch.log_softmax(fit.logp + 0.2 * torch.arange(5), -1)
        return chosen

    monkeypatch.setattr(tables, "minimise", off)
    assert pessimism.penalty_traces_the_projections().verdict is Verdict.FAILS

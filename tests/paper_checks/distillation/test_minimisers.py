"""DPO's degenerate families against direct search and an integrated gradient flow; distillation in closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import minimize

from paper_checks.claims import Verdict
from paper_checks.distillation import minimisers, tables

BETA = 0.7


@pytest.fixture
def log_ref():
    return tables.random_policy(3, 1, 5)[0]


def test_dpo_loss_by_hand(log_ref):
    policy = tables.random_policy(4, 1, 5)[0]
    ratio = (policy - log_ref).numpy()
    by_hand = np.mean([math.log1p(math.exp(-BETA * (ratio[w] - ratio[w + 1]))) for w in (0, 2)])
    assert minimisers.dpo_loss(policy, log_ref, 2, BETA) == pytest.approx(by_hand, rel=1e-13)


@pytest.mark.parametrize("loss", [0.6, 0.1, 1e-9])
def test_margin_at(loss):
    assert math.log1p(math.exp(-BETA * minimisers.margin_at(loss, BETA))) == pytest.approx(loss, rel=1e-7)


def test_the_three_families_have_the_loss_they_are_made_for(log_ref):
    row = minimisers._at_loss(0.05, log_ref, tables.roles(2, 1), 2, BETA)
    assert list(row["loss"].values()) == pytest.approx([0.05] * 3)


def test_largest_loser_is_the_supremum(log_ref):
    """No policy found by direct search at the same loss has a likelier loser, and one comes close."""
    loss, beta = 0.3, 1.0
    bound = minimisers.largest_loser(loss, log_ref.numpy(), 2, beta)
    within = {"type": "ineq", "fun": lambda z: loss - minimisers.dpo_loss(_policy(z), log_ref, 2, beta)}
    found = [
        -minimize(lambda z, k=k: -float(_policy(z)[k].exp()), start, constraints=[within], options={"maxiter": 300}).fun
        for k in (1, 3)
        for start in (log_ref.numpy(), np.zeros(5))
    ]
    assert max(found) <= bound + 1e-6
    assert max(found) > 0.98 * bound


def test_gradient_flow_moves_winners_up_and_losers_down_alike(log_ref):
    def velocity(_, logits):
        z = torch.from_numpy(logits).requires_grad_()
        ratio = torch.log_softmax(z, -1) - log_ref
        loss = torch.nn.functional.softplus(-BETA * (ratio[[0, 2]] - ratio[[1, 3]])).mean()
        return -torch.autograd.grad(loss, z)[0].numpy()

    end = solve_ivp(velocity, (0, 200), log_ref.numpy(), rtol=1e-10, atol=1e-12).y[:, -1]
    loss = minimisers.dpo_loss(_policy(end), log_ref, 2, BETA)
    m = minimisers.margin_at(loss, BETA)
    expected = minimisers.shifted(log_ref, tables.roles(2, 1), (m / 2, -m / 2, 0.0))
    torch.testing.assert_close(_policy(end), expected, rtol=0, atol=1e-6)
    assert loss < 0.05


def test_distilled_policy_in_closed_form():
    log_ref, reward = tables.random_policy(5, 2, 4), tables.random_reward(5, 2, 4)
    task = tables.task_on(minimisers._trees(5, 2, 4), log_ref, reward)
    expected = torch.log_softmax(log_ref + reward / BETA, -1)
    torch.testing.assert_close(tables.minimise(task, "d-dpo", beta=BETA).fits[0].logp[0], expected, rtol=0, atol=1e-7)


def test_spanning_trees_connect_everything_with_the_fewest_pairs():
    wins = minimisers._trees(0, 3, 6).wins[0]
    reach = np.linalg.matrix_power(np.eye(6) + wins[0] + wins[0].T, 6)
    assert (wins.sum((-1, -2)) == 5).all()
    assert (reach > 0).all()


def test_a_policy_that_is_not_the_optimum_would_be_found(monkeypatch):
    exact = tables.minimise

    def off(task, name, **values):
        chosen = exact(task, name, **values)
        if name == "d-dpo":
            moved = chosen.fits[0].logp + 1e-3 * torch.arange(chosen.fits[0].logp.shape[-1])
            chosen.fits[0] = replace(chosen.fits[0], logp=torch.log_softmax(moved, -1))
        return chosen

    monkeypatch.setattr(tables, "minimise", off)
    assert minimisers.distilled_policy_is_the_rlhf_optimum().verdict is Verdict.FAILS


def _policy(logits):
    return torch.log_softmax(torch.as_tensor(logits), -1)

"""The arithmetic by hand, and gradient descent at its limit."""

import numpy as np
import pytest
import torch

from paper_checks.claims import Verdict
from paper_checks.distillation import notes, setup
from theory import objectives


def test_training_volume_by_hand():
    evidence = setup.training_volume().evidence
    assert evidence["examples_seen"] == {"policy": 160_000, "reward": 192_000}
    assert evidence["epochs"] == pytest.approx({"policy": 16 / 3, "reward": 6.4})


def test_a_schedule_of_another_length_would_be_found(monkeypatch):
    monkeypatch.setattr(notes, "POLICY_STEPS", 9_000)
    assert setup.training_volume().verdict is Verdict.FAILS


@pytest.mark.parametrize("rho", notes.RHOS)
def test_a_pool_is_just_large_enough(rho):
    pool = setup.comparisons_needed(rho)
    spare = [0.61 * pool - rho * 30_000, 0.39 * pool - (1 - rho) * 30_000]
    assert min(spare) == pytest.approx(0, abs=1e-6)
    assert max(spare) >= -1e-6


def test_a_small_training_set_would_be_feasible(monkeypatch):
    monkeypatch.setattr(setup, "comparisons_needed", lambda rho: 10_000.0)
    assert setup.subsampling_is_feasible().verdict is Verdict.HOLDS


def test_hours_by_hand():
    evidence = setup.compute().evidence
    assert evidence["hours_a_run"] == pytest.approx({"policy": 100_000 / 3600, "reward": 30_000 / 3600})
    assert evidence["policy_runs_with_5_variants_of_DPO_and_IPO"] == 7 * 6 * 7


@pytest.mark.parametrize(("factor", "falls"), [(0.95, True), (1.05, False)])
def test_gradient_descent_is_stable_up_to_the_largest_rate(factor, falls):
    beta, world = 1.0, setup._World(seed=0)
    rate = factor * world.largest_rate(beta)
    about, task = objectives.get("d-dpo"), world.task
    problem = task.problem(about, {"beta": torch.tensor([beta], dtype=torch.float64)}, task.reward_fit.reward)
    logits, weights = task.log_ref[0].clone(), task.weights.T
    losses = []
    for _ in range(400):
        value, gradient, _ = problem.evaluate(logits)
        losses.append(float((weights[:, 0] * value).sum()))
        logits = logits - rate * weights * gradient
    assert (losses[-1] < losses[0]) is falls
    assert np.isfinite(losses[0])


def test_rewards_from_random_starts_are_the_fit():
    world = setup._World(seed=0)
    found = world.rewards_from_random_starts(2)
    fitted = world.task.reward_fit.reward[0]
    torch.testing.assert_close(found, fitted.expand(2, -1, -1), rtol=0, atol=1e-6)


def test_different_rewards_would_be_found(monkeypatch):
    monkeypatch.setattr(
        setup._World, "rewards_from_random_starts", lambda self, count: torch.rand(count, 10, 10, dtype=torch.float64)
    )
    assert setup.initialisations_make_an_ensemble().verdict is Verdict.HOLDS

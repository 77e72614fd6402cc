"""Symmetries that every objective has, on random tables."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.instances import Instance
from theory.objectives import get, names
from theory.sampling import WinCounts
from theory.simulation import Settings, make_task
from theory.solvers.options import Options
from theory.solvers.selection import Search

from .twins import HYPER, LEARNS_FROM_REWARD, TRAINS_A_HEAD

CASES = [(name, head) for name in names() for head in ("separate", "tied") if head == "separate" or name in TRAINS_A_HEAD]
few = settings(max_examples=4)


def _random(seed: int, vocab: int, contexts: int = 2) -> tuple[Instance, WinCounts]:
    """A connected table: every pair was won both ways at least once."""
    rng = np.random.default_rng(seed)
    target, reference = (rng.dirichlet(np.full(vocab, 2.0), contexts) for _ in range(2))
    wins = rng.integers(1, 20, (1, contexts, vocab, vocab)).astype(float)
    wins[..., np.arange(vocab), np.arange(vocab)] = 0
    totals = wins.sum((-1, -2)) + rng.integers(0, 9, (1, contexts))
    instance = Instance(target, reference, gamma=float(rng.uniform(0.6, 2)))
    return instance, WinCounts(wins, totals, float(totals.sum()))


def _fit(instance: Instance, data: WinCounts, name: str, head: str):
    # A bootstrap ensemble's resamples differ between the two tables; one true reward does not.
    oracle = "true" if get(name).ensemble > 1 else "learned"
    chosen = Settings(get(name), options=Options(reward_head=head, oracle=oracle))
    return Search(get(name), [make_task(instance, data, chosen)]).at(get(name).resolve(HYPER[name])).fits[0]


@pytest.mark.parametrize(("name", "head"), CASES)
@few
@given(seed=st.integers(0, 10_000), vocab=st.integers(2, 5))
def test_renaming_responses_renames_the_policy(name, head, seed, vocab):
    instance, data = _random(seed, vocab)
    order = np.random.default_rng(seed + 1).permutation(vocab)
    renamed = Instance(instance.target[:, order], instance.reference[:, order], gamma=instance.gamma)
    moved = WinCounts(data.wins[..., order, :][..., order], data.totals, data.n)
    a, b = _fit(instance, data, name, head), _fit(renamed, moved, name, head)
    torch.testing.assert_close(a.logp[..., torch.from_numpy(order)], b.logp, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(LEARNS_FROM_REWARD))
@few
@given(seed=st.integers(0, 10_000), vocab=st.integers(2, 5), constant=st.floats(-50, 50))
def test_a_constant_added_to_the_rewards_changes_nothing(name, seed, vocab, constant):
    instance, data = _random(seed, vocab)
    task = make_task(instance, data, Settings(get(name)))
    hyper = {k: torch.tensor([v], dtype=torch.float64) for k, v in HYPER[name].items()}
    reward = torch.from_numpy(instance.reward())[None]
    shift = torch.tensor([constant, -constant], dtype=torch.float64).reshape(1, 2, 1)
    a, b = (task.minimise(get(name), hyper, r, task.log_ref) for r in (reward, reward + shift))
    torch.testing.assert_close(a.logp, b.logp, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["dpo", "rkl", "drdo", "pmle", "ipo"])
@few
@given(seed=st.integers(0, 10_000))
def test_contexts_do_not_see_each_other(name, seed):
    instance, data = _random(seed, 4, contexts=3)
    whole = _fit(instance, data, name, "separate")
    for x in range(3):
        alone = Instance(instance.target[[x]], instance.reference[[x]], gamma=instance.gamma)
        part = WinCounts(data.wins[:, [x]], data.totals[:, [x]], float(data.totals[0, x]))
        torch.testing.assert_close(whole.logp[:, [x]], _fit(alone, part, name, "separate").logp, rtol=0, atol=1e-7)


@given(
    won=st.integers(1, 1000),
    lost=st.integers(1, 1000),
    ties=st.integers(0, 1000),
    reference=st.floats(0.01, 0.99),
    gamma=st.floats(0.3, 3),
)
def test_two_responses_in_closed_form(won, lost, ties, reference, gamma):
    """V = 2, no ridge: log-odds of the empirical win rate, scaled and shifted as each objective says."""
    instance = Instance(np.array([[0.5, 0.5]]), np.array([[reference, 1 - reference]]), gamma=gamma)
    n = float(won + lost + ties)
    data = WinCounts(np.array([[[[0.0, won], [lost, 0.0]]]]), np.array([[n]]), n)
    odds, prior = math.log(won / lost), math.log(reference / (1 - reference))
    expected = {
        "dpo": (prior + odds / 0.7, {"beta": 0.7}),
        "rlhf": (prior + odds / 0.7, {"beta": 0.7}),
        "d-dpo": (prior + odds / 0.7, {"beta": 0.7}),
        "rebel": (prior + odds * 1.3, {"eta": 1.3}),
        "pmle": (odds / gamma, {"beta": 0.0}),
        "pref-distill": (odds / gamma, {"beta": 0.0}),
        "rkl": ((odds / gamma + 0.4 * prior) / 1.4, {"alpha": 1.0, "beta": 0.4}),
        "sft": (odds, {}),
        "ipo": (prior + (won - lost) / (won + lost) / 0.6, {"tau": 0.3}),
        "simpo": (None, {}),
    }
    for name, (margin, values) in expected.items():
        objective = get(name)
        task = make_task(instance, data, Settings(objective, options=Options(ridge=0.0)))
        fit = Search(objective, [task]).at(objective.resolve(values)).fits[0]
        found = float(fit.logp[0, 0, 0] - fit.logp[0, 0, 1])
        if margin is None:  # stationary: won·σ(−(2Δ − 1)) = lost·σ(−(−2Δ − 1))
            assert won / (1 + math.exp(2 * found - 1)) == pytest.approx(lost / (1 + math.exp(-2 * found - 1)), rel=1e-6)
        else:
            assert found == pytest.approx(margin, abs=1e-6), name


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_drdo_at_two_responses_keeps_the_start(seed):
    """The focal term is identically zero at V = 2, so nothing moves the policy of a separate head (math §2)."""
    instance, data = _random(seed, 2)
    task = make_task(instance, data, Settings(get("drdo"), options=Options(ridge=0.0)))
    hyper = {k: torch.tensor([v], dtype=torch.float64) for k, v in get("drdo").resolve({}).items()}
    problem = task.problem(get("drdo"), hyper, task.reward_fit.reward)
    theta = torch.randn((2, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    _, gradient, hessian = problem.evaluate(theta)
    assert gradient[:, :2].abs().max() < 1e-14
    assert hessian[:, :2].abs().max() < 1e-13

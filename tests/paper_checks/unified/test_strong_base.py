"""How many unlabelled pairs are needed: by enumeration and by drawing them."""

from itertools import product

import numpy as np
import pytest
import torch

from paper_checks.unified.reward_class import instance_at, ratio
from paper_checks.unified.second_stage import distilled, learned_rewards
from paper_checks.unified.strong_base import SMALL_KL, pairs_needed, single_shifts, uncompared
from paper_checks.unified.trials import Trial
from theory.instances import Instance
from theory.sampling import draw


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("responses", [(0,), (0, 2), (0, 1, 2)])
def test_uncompared_by_enumeration(m, responses):
    base = np.array([0.5, 0.3, 0.2])
    total = 0.0
    for drawn in product(range(3), repeat=2 * m):
        pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
        met = {i for i, j in pairs if i != j} | {j for i, j in pairs if i != j}
        if not set(responses) <= met:
            total += base[list(drawn)].prod()
    assert uncompared(base, responses, m) == pytest.approx(total, rel=1e-12)


def test_pairs_needed_are_enough_and_no_more():
    """Distillation of r* itself on that many pairs: KL > 0.01 about as rarely as promised, and not with half of them."""
    known = single_shifts(100.0)
    data = known.instance.data_policy
    m = pairs_needed(known, data[0])
    often = [float((Trial(known, n=1, m=size, sets=2_000).distilled(data) > SMALL_KL).mean()) for size in (m, m // 2)]
    assert often[0] == pytest.approx(0.05, abs=0.02)
    assert often[1] > 0.15


def test_on_a_table_distillation_returns_the_reward_whatever_the_base():
    instance, _ = instance_at(10.0)
    rewards = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 6, 8)))
    for base in (instance.data_policy, instance.target):
        logp = distilled(instance, base, rewards)
        torch.testing.assert_close(logp, torch.log_softmax(rewards / instance.gamma, -1), rtol=0, atol=1e-6)


def test_learned_rewards_with_two_responses():
    """V = 2: the BT reward is the log-odds of the counts."""
    instance = Instance(np.array([[0.7, 0.3]]), np.array([[0.5, 0.5]]))
    rewards = learned_rewards(instance, 500, 4, 9, "table")
    wins = draw(instance, 500, 9, range(4)).wins[:, 0]
    expected = np.log(wins[:, 0, 1] / wins[:, 1, 0])
    np.testing.assert_allclose((rewards[:, 0, 0] - rewards[:, 0, 1]).numpy(), expected, rtol=1e-7)


def test_a_ratio_of_means_and_its_interval():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        noise = rng.chisquare(5, 200)
        found = ratio(3 * noise * rng.chisquare(20, 200) / 20, noise)
        inside += found.low <= 3 <= found.high
    assert inside / 300 == pytest.approx(0.99, abs=0.02)

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from paper_checks.unified.tasks import by_newton, counts, distance, gap, task_of
from theory.instances import Instance, random_instance
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World


def two_responses(gamma):
    log_ref = torch.tensor([[0.3, 0.7]], dtype=torch.float64).log()
    return TableTask(counts(np.array([[0, 9], [3, 0]])), World(log_ref, gamma), Options(0.0))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_newton_finds_the_empirical_log_odds(gamma):
    found = by_newton(two_responses(gamma), "pmle", beta=0.0)[0, 0]
    assert float(found[0] - found[1]) == pytest.approx(math.log(3) / gamma, rel=1e-9)


def test_newton_passes_on_the_reward():
    reward = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    found = by_newton(two_responses(1.0), "rlhf", reward, beta=0.5)[0, 0]
    assert float(found[0] - found[1]) == pytest.approx(math.log(3 / 7) + 2, rel=1e-9)


def test_distance_weighs_contexts():
    instance = random_instance(0, vocab=4, contexts=2)
    instance = Instance(instance.target, instance.reference, context_weights=np.array([0.9, 0.1]))
    each = [entropy(p, q) for p, q in zip(instance.target, instance.reference, strict=True)]
    assert distance(instance, torch.from_numpy(np.log(instance.reference))[None])[0] == pytest.approx(
        0.9 * each[0] + 0.1 * each[1]
    )


def test_gap_is_total_variation():
    a, b = (torch.tensor(p, dtype=torch.float64).log()[None, None] for p in ([0.5, 0.5], [0.9, 0.1]))
    assert gap(a, b) == pytest.approx(0.4)


def test_task_of_draws_as_many_data_sets_as_asked():
    task = task_of(random_instance(0, vocab=4, contexts=2), 100, replicates=3)
    assert task.data.totals.sum(1).tolist() == [100, 100, 100]

"""Descent against exact minimisers, and the measures of similarity."""

import numpy as np
import pytest
import torch

from paper_checks.distillation import annealing
from theory import objectives
from theory.instances import random_instance
from theory.simulation import Settings, draw_data, make_task
from theory.solvers.selection import Search


@pytest.fixture
def small():
    instance = random_instance(1, vocab=4, contexts=2)
    data = draw_data(instance, 2000, seed=0, replicates=range(2))
    return instance, make_task(instance, data, Settings(objectives.get("e-dpo")))


def test_descent_reaches_the_exact_minimiser_of_its_last_weight(small):
    _, task = small
    annealed = annealing.descend(task, 1.0, np.append(np.linspace(1e-4, 1e-2, 300), np.full(300, 1e-2)))
    exact = Search(objectives.get("e-dpo"), [task]).fit(annealing._hyper(task, 1.0, 1e-2), [task.log_ref])[0].logp
    torch.testing.assert_close(annealed.exp(), exact.exp(), rtol=0, atol=1e-3)
    other = Search(objectives.get("e-dpo"), [task]).fit(annealing._hyper(task, 1.0, 10.0), [task.log_ref])[0].logp
    assert float((annealed.exp() - other.exp()).abs().max()) > 1e-2


def test_the_path_is_forgotten(small):
    assert annealing._path_dependence(small[1], 1.0) < annealing.EQUAL


def test_advantage_of_target_and_reference(small):
    instance, _ = small
    values = annealing._Values(instance)
    target, reference = (torch.from_numpy(np.log(p))[None] for p in (instance.target, instance.reference))
    by_hand = np.mean([(t - r) @ np.log(t) for t, r in zip(instance.target, instance.reference, strict=True)])
    assert values.advantage(target)[0] == pytest.approx(by_hand)
    assert values.advantage(reference)[0] == pytest.approx(0, abs=1e-15)


def test_relative_spread():
    assert annealing._relative_spread([1.0, 0.9, 0.95]) == pytest.approx(0.1)

"""Solving each kind of context once gives what solving every context gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from theory import objectives
from theory.sampling import WinCounts
from theory.solvers.distinct import DistinctTask
from theory.solvers.options import Options
from theory.solvers.selection import Search
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World

KINDS = np.array([[[0, 3, 1], [2, 0, 1], [1, 1, 0]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[0, 9, 4], [5, 0, 2], [0, 3, 0]]], float)


def tasks(references=2, contexts=40):
    rng = np.random.default_rng(0)
    wins = KINDS[rng.integers(0, 3, contexts)][None]
    data = WinCounts(wins, wins.sum((-1, -2)), float(wins.sum()))
    reference = np.array([[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])[rng.integers(0, references, contexts)]
    world = World(torch.from_numpy(np.log(reference)), 1.3)
    return DistinctTask(data, world, Options()), TableTask(data, world, Options())


@pytest.mark.parametrize("name", objectives.names())
def test_every_objective_has_the_same_minimiser_value_and_drain(name):
    few, all_ = tasks()
    objective = objectives.get(name)
    values = objective.resolve({"beta": 0.5} if any(p.name == "beta" for p in objective.hyperparameters) else {})
    found, expected = (Search(objective, [task]).at(values) for task in (few, all_))
    assert len(few.first) == 6
    assert torch.allclose(found.fits[0].logp, expected.fits[0].logp, rtol=0, atol=1e-7)
    assert torch.allclose(found.fits[0].value, expected.fits[0].value, rtol=1e-9)
    if expected.fits[0].student is not None:
        assert torch.allclose(found.fits[0].reward, expected.fits[0].reward, rtol=0, atol=1e-7)
    assert (few.vanishing(objective, found.hyper) == all_.vanishing(objective, expected.hyper)).all()


def test_the_validation_rule_chooses_the_same_value():
    few, all_ = tasks()
    objective = objectives.get("pmle")
    found, expected = (Search(objective, [task]).validated(objective.resolve({})) for task in (few, all_))
    assert float(found.hyper["beta"]) == pytest.approx(float(expected.hyper["beta"]), rel=1e-6)


def test_contexts_that_differ_in_the_reference_alone_are_two_kinds():
    few, _ = tasks(references=1)
    assert len(few.first) == 3
    assert (few.data.wins[0, few.first][few.kind] == few.data.wins[0]).all()


def test_parts_and_resamples_have_kinds_of_their_own():
    few, _ = tasks()
    rng = np.random.default_rng(0)
    for task in (*few.divided(0.3, rng), few.resampled(rng)):
        assert isinstance(task, DistinctTask)
        assert len(task.first) > 6

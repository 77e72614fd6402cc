"""Label patterns, disjoint pairs and given ensembles."""

import itertools

import numpy as np
import torch

from paper_checks.distillation import tables
from theory import objectives
from theory.solvers.selection import Search


def test_label_patterns_are_all_different_and_all_there():
    data = tables.label_patterns(3)
    patterns = {tuple(wins.ravel()) for wins in data.wins}
    off_diagonal = set(itertools.product((0.0, 1.0), repeat=6))
    assert len(patterns) == 4**3
    assert {tuple(np.delete(pattern, [0, 4, 8])) for pattern in patterns} == off_diagonal
    assert all(pattern[0] == pattern[4] == pattern[8] == 0 for pattern in patterns)


def test_disjoint_pairs_and_roles_agree():
    wins = tables.disjoint_pairs(2, 1).wins[0, 0]
    role = tables.roles(2, 1)
    assert [tuple(edge) for edge in np.argwhere(wins)] == [(0, 1), (2, 3)]
    assert all(role[i] == 0 and role[j] == 1 for i, j in np.argwhere(wins))
    assert role[4] == 2


def test_masses_add_up():
    role = tables.roles(2, 3)
    found = tables.masses(tables.random_policy(0, 1, 7)[0], role)
    assert np.isclose(sum(found.values()), 1)


def test_an_ensemble_takes_the_member_with_the_least_total():
    """With members r and 0 and no penalty both losses reach 0; with a penalty only the zero reward's stays there."""
    log_ref, reward = tables.random_policy(0, 1, 3), tables.random_reward(0, 1, 3)
    data = tables.label_patterns(3).seeds(slice(63, 64))
    task = tables.EnsembleTask(data, tables.task_on(data, log_ref).world, tables.task_on(data, log_ref).options)
    task.members = [reward[None], torch.zeros_like(reward)[None], reward[None]]
    hyper = {"beta": torch.ones(1, dtype=torch.float64), "lambda_": torch.full((1,), 0.1, dtype=torch.float64)}
    fit = Search(objectives.get("e-dpo"), [task]).fit(hyper, [task.log_ref])[0]
    torch.testing.assert_close(fit.logp[0], log_ref, rtol=0, atol=1e-8)

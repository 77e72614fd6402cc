"""Gradient flow against closed forms and a plain explicit integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from paper_checks.drdo.comparisons import task_of
from paper_checks.drdo.flow import gradient_flow
from paper_checks.drdo.focal_minima import FOCAL
from theory import objectives

DPO = objectives.get("dpo")


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 10.0])
def test_margin_of_one_pair(beta: float) -> None:
    # u = β·margin, du/dt = 2β²σ(−u) from u = 0 integrates to eᵘ + u = 2β²t + 1.
    times = [1.0, 1e3, 1e9]
    logp = gradient_flow(DPO, task_of([(0, 1, 1)], 3), times, beta=beta)
    for time, row in zip(times, logp, strict=True):
        wanted = brentq(lambda u, t=time: math.exp(u) + u - 1 - 2 * beta**2 * t, 0, 60)
        assert beta * (row[0] - row[1]) == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def test_unseen_logit_and_the_sum_of_the_others_stay() -> None:
    # The gradient of a margin moves winner and loser by opposite amounts and nothing else.
    reference = [0.2, 0.3, 0.5]
    (row,) = gradient_flow(DPO, task_of([(0, 1, 3), (1, 0, 1)], 3, reference=reference), [1e6], beta=1.0)
    before = np.log(reference)
    assert row[0] + row[1] - 2 * row[2] == pytest.approx(before[0] + before[1] - 2 * before[2], abs=1e-6)
    assert row[0] - row[1] == pytest.approx(before[0] - before[1] + math.log(3), abs=1e-5)


def euler(gamma_f: float, time: float, steps: int) -> np.ndarray:
    """The focal term's flow on one pair of three responses by explicit steps and difference quotients."""

    def loss(z: np.ndarray) -> float:
        p = np.exp(z) / np.exp(z).sum()
        return -((p[1] / (p[0] + p[1])) ** gamma_f) * math.log(p[0] / (1 - p[1]))

    z = np.zeros(3)
    for _ in range(steps):
        z = z - time / steps * np.array([(loss(z + e) - loss(z - e)) / 2e-5 for e in 1e-5 * np.eye(3)])
    return np.exp(z) / np.exp(z).sum()


def test_focal_flow_against_explicit_steps() -> None:
    (row,) = gradient_flow(FOCAL, task_of([(0, 1, 1)], 3), [5.0], gamma_f=2.0)
    assert np.exp(row) == pytest.approx(euler(2.0, 5.0, 2000), abs=1e-3)


def test_shared_parameters_follow_the_features() -> None:
    # With one parameter θ and features (1, 0, 2), log-odds of winner over loser are θ and of unseen over loser 2θ.
    (row,) = gradient_flow(DPO, task_of([(0, 1, 1)], 3, features=[[1.0], [0.0], [2.0]]), [50.0], beta=1.0)
    assert row[2] - row[1] == pytest.approx(2 * (row[0] - row[1]), rel=1e-9)
    assert row[0] > row[1]

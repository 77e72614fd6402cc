"""Proposition 12's exact case by enumeration, and the adversarial class."""

import math
from itertools import product

import numpy as np
import pytest

from paper_checks.unified import likelihood
from paper_checks.unified.constants import preference_error
from paper_checks.unified.trials import DELTAS, kept


@pytest.mark.parametrize(("fair", "delta", "constant"), [(0.5, 0.5, 0.2), (0.7, 0.1, 0.2), (0.9, 0.5, 0.6)])
def test_two_policies_by_enumeration(fair, delta, constant):
    n = 7
    other = fair - math.sqrt(2 * constant * preference_error(2, n, delta) * (1 + likelihood.BEYOND))
    total = 0.0
    for draws in product(("tie", "win", "loss"), repeat=n):
        wins, losses = draws.count("win"), draws.count("loss")
        mine = wins * math.log(fair) + losses * math.log(1 - fair)
        theirs = wins * math.log(other) + losses * math.log(1 - other)
        if theirs >= mine - 1e-9:
            total += 0.5**n * fair**wins * (1 - fair) ** losses
    assert likelihood.two_policies(fair, n, delta, constant) == pytest.approx(total, rel=1e-10)


def test_no_policy_so_far_away():
    assert math.isnan(likelihood.two_policies(0.5, 10, 0.01))


@pytest.mark.parametrize("constant", [1.0, 0.5])
def test_hard_members_lie_just_beyond(constant):
    known = likelihood.hard_class(0.05, constant)
    bound = constant * preference_error(101, likelihood.HARD_N, 0.05)
    np.testing.assert_allclose(known.errors[1:], bound * (1 + likelihood.BEYOND), rtol=1e-9)
    assert known.errors[0] == 0


def test_half_the_constant_is_caught():
    assert not kept(likelihood.hard_violations(0.5))


def test_shares_are_against_their_own_delta():
    zeros = {"at_most": [0.4, 0.09, 0.04, 0.009]}
    assert kept(zeros)
    for k in range(len(DELTAS)):
        broken = {"at_most": [*zeros["at_most"]]}
        broken["at_most"][k] = DELTAS[k] * 1.01
        assert not kept(broken)

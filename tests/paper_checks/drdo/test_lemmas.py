"""Lemmas 1 and 2: closed forms against brute force, and what a wrong one would do to the verdict."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from paper_checks.drdo import complement, degeneracy, distilled
from paper_checks.drdo.comparisons import DISJOINT, losers, mass_outside
from theory.instances import Instance


def test_minimiser_of_the_expected_loss() -> None:
    u = degeneracy.best_margin()
    (p,) = u.free_symbols
    for value in (0.2, 0.5, 0.9):
        grid = np.linspace(-5, 5, 20_001)
        loss = value * np.log1p(np.exp(-grid)) + (1 - value) * np.log1p(np.exp(grid))
        assert float(u.subs(p, value)) == pytest.approx(grid[loss.argmin()], abs=1e-3)


def test_population_margin_is_the_log_odds() -> None:
    instance = Instance(np.array([[0.5, 0.2, 0.3]]), np.array([[0.2, 0.2, 0.6]]))
    margins = degeneracy.population_margins(instance, 0.3)[0]
    assert margins[0, 1] == pytest.approx(math.log(0.5 / 0.2), abs=1e-7)
    assert margins[1, 2] == pytest.approx(math.log(0.2 / 0.3), abs=1e-7)


def test_a_biased_margin_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    true = degeneracy.population_margins
    monkeypatch.setattr(degeneracy, "population_margins", lambda i, b: true(i, b) + 1e-3 * np.triu(np.ones((i.vocab,) * 2)))
    assert degeneracy.fair_pair_margin().verdict == "fails"
    assert degeneracy.zero_margin_fits().verdict == "holds"


def test_time_to_a_ratio_inverts_the_margin() -> None:
    for beta in (0.05, 0.5, 2.0):
        time = degeneracy.time_to_ratio(1e-2, beta)
        assert math.exp(-degeneracy.separated_margin(time, beta) / beta) == pytest.approx(1e-2, rel=1e-6)


def test_a_wrong_closed_form_fails_lemma_1b(monkeypatch: pytest.MonkeyPatch) -> None:
    true = degeneracy.separated_margin
    monkeypatch.setattr(degeneracy, "separated_margin", lambda t, b: true(2 * t, b))
    assert degeneracy.unanimous_pair_diverges().verdict == "fails"


def test_no_policy_exceeds_the_bound_on_a_loser() -> None:
    rng, beta = np.random.default_rng(0), 0.5
    tightest = 0.0
    for logits in rng.normal(scale=6, size=(2000, 6)):
        logp = logits - np.logaddexp.reduce(logits)
        bound = complement.largest_loser(complement.loss_on(DISJOINT, logp, beta), 2, beta)
        ratio = math.exp(max(logp[1] - logp[0], logp[3] - logp[2]))
        assert ratio <= bound * (1 + 1e-9)
        tightest = max(tightest, ratio / bound)
    assert tightest > 0.9


def test_loss_of_a_policy_by_hand() -> None:
    logp = np.log([0.5, 0.3, 0.2])
    wanted = (3 * math.log(1 + (0.3 / 0.5) ** 0.7) + math.log(1 + (0.5 / 0.3) ** 0.7)) / 4
    assert complement.loss_on([(0, 1, 3), (1, 0, 1)], logp, 0.7) == pytest.approx(wanted)


def test_unseen_mass_of_a_pair_labelled_both_ways() -> None:
    # Logits m/2, −m/2 and 0 with m = log(odds)/β.
    for odds, beta in itertools.product((2.0, 3.0), (0.5, 1.0)):
        weights = np.array([odds ** (0.5 / beta), odds ** (-0.5 / beta), 1.0])
        assert complement.both_ways_unseen(odds, beta) == pytest.approx(weights[2] / weights.sum())


def test_losers_and_what_is_outside_them() -> None:
    assert losers([(0, 1, 1), (2, 1, 4), (3, 0, 1)]) == [0, 1]
    assert mass_outside(np.array([0.1, 0.2, 0.3, 0.4]), [0, 1]) == pytest.approx(0.7)


def test_distilled_flow_ends_by_hand() -> None:
    weights = np.exp(np.array([2.0, -2.0, 2.0, -2.0, 0.0, 0.0]))
    policy = weights / weights.sum()
    found = distilled.flow_masses(margin=0.4, beta=0.1)
    assert found["outside losers"] == pytest.approx(1 - policy[1] - policy[3])
    assert found["outside winners"] == pytest.approx(1 - policy[0] - policy[2])


def test_a_wrong_closed_form_fails_lemma_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilled, "expected_log_ratio", lambda margin, beta: margin / beta)
    assert distilled.distilled_ratio().verdict == "fails"


def test_ratios_that_all_vanish_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilled, "distilled_log_ratio", lambda margin, beta: 50.0)
    monkeypatch.setattr(distilled, "expected_log_ratio", lambda margin, beta: 50.0)
    assert distilled.distilled_ratio().verdict == "holds"

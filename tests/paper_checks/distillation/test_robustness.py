"""Verdicts on made-up curves."""

import numpy as np
import pytest

from paper_checks.claims import Verdict
from paper_checks.distillation import robustness


def rows(value):
    """Made-up curves: ``value(method, rho)`` plus a little that differs between seeds."""

    def curves(rhos, methods, seeds, design=None):
        return [
            {"method": m, "rho": rho, "seed": s, "advantage_sd": value(m, rho) + 1e-3 * (s % 10), "uncertified": 0}
            for s in seeds
            for rho in rhos
            for m in methods
        ]

    return curves


def test_table_orders_seeds_and_rhos():
    made = rows(lambda m, rho: rho)((0.2, 0.3), ("dpo", "ipo"), (4, 2))
    found = robustness.table(made, "ipo", (0.3, 0.2))
    np.testing.assert_allclose(found, [[0.302, 0.202], [0.304, 0.204]])


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (lambda m, rho: rho, Verdict.HOLDS),
        (lambda m, rho: -rho, Verdict.FAILS),
        (lambda m, rho: -rho if m == "dpo" else rho, Verdict.HOLDS_IF),
    ],
)
def test_harder_follows_the_curves(monkeypatch, value, verdict):
    monkeypatch.setattr(robustness, "advantage_curves", rows(value))
    assert robustness.few_longer_winners_are_harder().verdict is verdict


@pytest.mark.parametrize(("at_half", "verdict"), [(0.5, Verdict.HOLDS), (0.05, Verdict.FAILS)])
def test_gains_follow_the_worst_point(monkeypatch, at_half, verdict):
    monkeypatch.setattr(robustness, "advantage_curves", rows(lambda m, rho: at_half if (m, rho) == ("p-dpo", 0.5) else 1.0))
    assert robustness.distillation_gains_at_every_bias().verdict is verdict


@pytest.mark.parametrize(
    ("better", "verdict"),
    [((), Verdict.FAILS), (("e-dpo",), Verdict.HOLDS_IF), (("d-dpo", "e-dpo", "e-dpo-length"), Verdict.HOLDS)],
)
def test_robust_follows_the_differences(monkeypatch, better, verdict):
    monkeypatch.setattr(robustness, "advantage_curves", rows(lambda m, rho: 1.0 + 0.1 * (m in better)))
    found = robustness.distillation_is_more_robust()
    assert found.verdict is verdict
    assert all(set(names) == set(better) for names in found.evidence["beats_both_baselines"].values())


def test_differences_are_taken_within_a_world():
    methods = ("dpo", "ipo", *robustness.DISTILLED)
    made = rows(lambda m, rho: {"dpo": 0.0, "ipo": 0.5}.get(m, 1.0))(robustness.SMALL, methods, range(3))
    found = robustness.compared(made, robustness.SMALL)["d-dpo"]
    assert found["minus_dpo"] == pytest.approx([1.0] * 3)
    assert found["minus_ipo"] == pytest.approx([0.5] * 3)


def test_learned_weight_of_length_follows_the_training_set():
    weights = robustness.length_weights((0.2, 0.61, 0.8))
    assert weights["rho_0.2"] < 0 < weights["oracle"] < weights["rho_0.8"]
    assert weights["rho_0.61"] == pytest.approx(weights["oracle"], rel=0.2)

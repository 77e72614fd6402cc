"""The focal term's gradient, weights and minima against difference quotients and independent minimisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from paper_checks.drdo import focal, focal_minima, population, separable, sequence_scale, weights
from theory.instances import Instance


def term(a: float, b: float, gamma_f: float) -> float:
    """−(1 − p_w)^γf log(π_w/(1 − π_l)) as it reads."""
    p = math.exp(a) / (math.exp(a) + math.exp(b))
    return -((1 - p) ** gamma_f) * (a - math.log(1 - math.exp(b)))


@pytest.mark.parametrize("gamma_f", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize(("a", "b"), [(-0.5, -2.0), (-2.0, -0.7), (-5.0, -5.0)])
def test_parts_add_up_to_difference_quotients(a: float, b: float, gamma_f: float) -> None:
    part, h = focal.parts(a, b, gamma_f), 1e-6
    in_winner = (term(a + h, b, gamma_f) - term(a - h, b, gamma_f)) / (2 * h)
    in_loser = (term(a, b + h, gamma_f) - term(a, b - h, gamma_f)) / (2 * h)
    assert part["dropped_winner"] + part["kept_winner"] == pytest.approx(in_winner, rel=1e-6)
    assert part["dropped_loser"] + part["kept_loser"] == pytest.approx(in_loser, rel=1e-6, abs=1e-9)
    # With the weight held fixed only the kept terms are left.
    fixed = (1 - 1 / (1 + math.exp(b - a))) ** gamma_f
    odds = [a - math.log(1 - math.exp(b + s * h)) for s in (1, -1)]
    assert part["kept_loser"] == pytest.approx(-fixed * (odds[0] - odds[1]) / (2 * h), rel=1e-5)


def test_the_level_of_a_ratio() -> None:
    for ratio, gamma_f, p in ((0.1, 2.0, 0.5), (1.0, 0.5, 0.9)):
        level = focal.level_where(ratio, gamma_f, p)
        assert gamma_f * p * level == pytest.approx(ratio)
    long = focal.parts(-40.0, -40.0, 2.0)
    assert focal.share_dropped(long) * focal.level_where(1.0, 2.0) == pytest.approx(40.0)


def test_half_a_dropped_term_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    true = focal.parts
    monkeypatch.setattr(focal, "parts", lambda a, b, g: {k: v / 2 if "dropped" in k else v for k, v in true(a, b, g).items()})
    assert focal.dropped_gradient().verdict == "fails"


def test_dpo_weight_by_hand() -> None:
    for u in (-2.0, 0.0, 3.0):
        assert weights.dpo_weight(u, beta=0.3) == pytest.approx(0.3 / (1 + math.exp(u)))


def test_mean_pulls_by_difference_quotients() -> None:
    def both(m: float, level: float) -> float:
        a, b = level + m / 2, level - m / 2
        return (term(a, b, 2.0) + term(b, a, 2.0)) / 2

    h, a, b = 1e-5, -1.5, -2.5
    found = weights.mean_pulls(a, b)
    # d(margin)/dt = −2 ∂L/∂m and d(a + b)/dt = −∂L/∂level, with level = (a + b)/2.
    assert found["margin"] == pytest.approx(-2 * (both(1 + h, -2) - both(1 - h, -2)) / (2 * h), rel=1e-5)
    assert found["level"] == pytest.approx(-(both(1, -2 + h) - both(1, -2 - h)) / (2 * h), rel=1e-5)
    assert found["margin"] < 0


def test_thresholds_are_those_of_the_formats() -> None:
    # Half an ulp below 1 is 2^−54 in float64 and 2^−25 in float32; the least positive numbers 2^−1074 and 2^−149.
    found = sequence_scale.unlikelihood_at_scale().evidence["zero_below_in_nats"]
    assert found["float64"]["as written"] == pytest.approx(-54 * math.log(2), abs=0.01)
    assert found["float32"]["as written"] == pytest.approx(-25 * math.log(2), abs=0.01)
    assert found["float64"]["log1mexp"] == pytest.approx(-1074 * math.log(2), abs=1.0)
    assert found["float32"]["log1mexp"] == pytest.approx(-149 * math.log(2), abs=1.0)


def test_share_of_unlikelihood_by_hand() -> None:
    odds = -2 - math.log(1 - math.exp(-2))
    assert sequence_scale.share_of_unlikelihood(-2.0) == pytest.approx(abs(odds + 2) / abs(odds))


def test_value_of_a_pair_by_hand() -> None:
    assert focal_minima.focal_at(0.4, 0.3) == pytest.approx(term(math.log(0.4), math.log(0.3), 2.0))
    assert focal_minima.focal_at(0.4, 0.3) > 0 == pytest.approx(focal_minima.focal_at(0.2, 0.8), abs=1e-12)


def least(frequencies: np.ndarray, gamma_f: float) -> np.ndarray:
    """The policy of least expected focal term by a quasi-Newton method from several starts; (V, V) pair frequencies."""

    def loss(z: np.ndarray) -> float:
        p = np.exp(z - np.logaddexp.reduce(z))
        pairs = np.argwhere(frequencies > 0)
        return sum(frequencies[i, j] * term(math.log(p[i]), math.log(p[j]), gamma_f) for i, j in pairs)

    vocab = len(frequencies)
    starts = [np.zeros(vocab), *np.random.default_rng(0).normal(size=(3, vocab))]
    best = min((minimize(loss, s, method="BFGS", options={"gtol": 1e-9}) for s in starts), key=lambda r: r.fun).x
    return np.exp(best - np.logaddexp.reduce(best))


def test_population_floor_against_another_minimiser() -> None:
    target, reference = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    odds = target[:, None] / (target[:, None] + target[None, :])
    pairs = 2 * reference[:, None] * reference[None, :] * (1 - np.eye(3))
    policy = least(pairs * odds, 2.0)
    wanted = float((target * np.log(target / policy)).sum())
    assert population.drdo_floor(Instance(target[None], reference[None]), 2.0) == pytest.approx(wanted, rel=1e-4)


def test_a_rescued_data_set_against_another_minimiser() -> None:
    frequencies = np.zeros((3, 3))
    for winner, loser, count in separable.CONTESTED:
        frequencies[winner, loser] += count / 3
    assert separable.bounded(1e-7, separable.CONTESTED, 3) == pytest.approx(least(frequencies, 2.0), abs=1e-4)


def test_a_rule_that_rescues_nothing_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separable, "leads_to_cycle", lambda wins: np.zeros(len(wins), dtype=bool))
    assert separable.avoids_degeneracy().verdict == "fails"

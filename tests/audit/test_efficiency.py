"""Rates and constants against textbook formulas of M-estimation, multinomials and the Cramér–Rao limit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from torch.nn.functional import logsigmoid, relu

from theory.audit import efficiency
from theory.audit.efficiency import asymptotics, fit_many, learning_curve
from theory.audit.subject import Subject
from theory.instances import Instance, random_instance
from theory.objectives import get, make

SMALL = random_instance(7, vocab=4, contexts=3, gamma=1.5)


def right(pair, *, gamma):
    return -logsigmoid(gamma * pair.logp_margin)


def exponential(pair, *, gamma):
    """Least at γΔ = log P/(1 − P), hence consistent, but it weighs comparisons otherwise than the likelihood."""
    return torch.exp(-gamma * pair.logp_margin / 2)


def square(pair):
    return (pair.logp_margin - 1) ** 2


def falling(pair):
    return -pair.logp_margin


def of(objective, instance=SMALL, **values) -> Subject:
    return Subject(get(objective) if isinstance(objective, str) else make(objective), values, instance=instance)


def comparisons(instance: Instance) -> np.ndarray:
    """How often i beats j among all comparisons of a context."""
    reward, mu = instance.gamma * np.log(instance.target), instance.data_policy
    table = 2 * mu[:, :, None] * mu[:, None, :] * expit(reward[:, :, None] - reward[:, None, :])
    table[:, range(instance.vocab), range(instance.vocab)] = 0
    return table


def laplacian(weights: np.ndarray) -> np.ndarray:
    """Σ_ij w_ij (e_i − e_j)(e_i − e_j)ᵀ."""
    both = weights + weights.T
    return np.diag(both.sum(1)) - both


def sandwich_constant(instance: Instance, log_limit: np.ndarray, first, second) -> float:
    """½ Σ_x tr(S H⁺ G H⁺) of a loss of the margin with the given derivatives, each comparison a term of its mean."""
    total = 0.0
    for table, logp in zip(comparisons(instance), log_limit, strict=True):
        margin = logp[:, None] - logp[None, :]
        bread = np.linalg.pinv(laplacian(table * second(margin)))
        meat = laplacian(table * first(margin) ** 2)
        p = np.exp(logp)
        total += np.trace((np.diag(p) - np.outer(p, p)) @ bread @ meat @ bread)
    return total / 2


def spread(instance: Instance, log_limit: np.ndarray, slope: float) -> list[np.ndarray]:
    """S I⁺ of every context, I the Fisher information of a comparison in logits that are the reward over ``slope``."""
    found = []
    for table, p in zip(comparisons(instance), np.exp(log_limit), strict=True):
        pairs = table + table.T
        win = np.divide(table, pairs, where=pairs > 0, out=np.zeros_like(table))
        information = slope**2 * laplacian(np.triu(pairs * win * win.T))
        found.append((np.diag(p) - np.outer(p, p)) @ np.linalg.pinv(information))
    return found


def cramer_rao(instance: Instance) -> float:
    return sum(np.trace(matrix) for matrix in spread(instance, np.log(instance.target), instance.gamma)) / 2


def contains(interval, value: float) -> bool:
    """Within four standard errors of a simulated mean; its interval has 1.96."""
    return abs(interval.value - value) <= 4 / 1.96 * (interval.high - interval.low) / 2


# --- The asymptotic constant. ------------------------------------------------------------------------------


def test_the_likelihood_attains_the_cramer_rao_limit():
    constant = asymptotics(of(right))
    assert constant.delta == pytest.approx(cramer_rao(SMALL), rel=1e-6)
    assert contains(constant.simulated, cramer_rao(SMALL))
    assert constant.ratio == constant.simulated.value / constant.delta
    section = efficiency.section(of(right))
    assert {f.id: f.verdict for f in section.findings} == {
        "rate.slope": "yes",
        "rate.constant": "agree",
        "rate.efficiency": "all",
    }
    found = section.finding("rate.efficiency").numbers
    assert found["efficiency"] == pytest.approx(1, abs=1e-6)
    assert found["cramer_rao"] == pytest.approx(cramer_rao(SMALL), rel=1e-9)


def test_the_weights_of_contexts_cancel():
    uneven = replace(SMALL, context_weights=np.array([0.1, 0.2, 0.7]))
    assert asymptotics(of(right, uneven)).delta == pytest.approx(cramer_rao(SMALL), rel=1e-6)
    assert contains(asymptotics(of(right, uneven)).simulated, cramer_rao(SMALL))


def test_a_consistent_loss_may_waste_data():
    audited = of(exponential)
    half = SMALL.gamma / 2
    textbook = sandwich_constant(
        SMALL, np.log(SMALL.target), lambda m: -half * np.exp(-half * m), lambda m: half**2 * np.exp(-half * m)
    )
    constant = asymptotics(audited)
    assert audited.limit.forward_kl <= 1e-15
    assert constant.delta == pytest.approx(textbook, rel=1e-6)
    assert contains(constant.simulated, textbook)
    found = efficiency.section(audited).finding("rate.efficiency")
    assert found.verdict == "part"
    assert found.numbers["efficiency"] == pytest.approx(cramer_rao(SMALL) / textbook, rel=1e-6)
    assert found.numbers["efficiency"] < 0.99


def test_with_two_responses_every_consistent_loss_is_efficient():
    """One log-odds, a function of one frequency: the exponential loss estimates it as the likelihood does."""
    pair = random_instance(3, vocab=2, contexts=2)
    assert asymptotics(of(exponential, pair)).delta == pytest.approx(cramer_rao(pair), rel=1e-6)


def test_a_biased_loss_has_a_constant_of_its_own_and_no_efficiency():
    audited = of(square)
    textbook = sandwich_constant(SMALL, audited.limit.logp, lambda m: 2 * (m - 1), lambda m: np.full_like(m, 2.0))
    constant = asymptotics(audited)
    assert constant.delta == pytest.approx(textbook, rel=1e-6)
    assert contains(constant.simulated, textbook)
    found = efficiency.section(audited)
    assert {f.id: f.verdict for f in found.findings} == {"rate.slope": "no", "rate.constant": "agree", "rate.efficiency": "none"}
    assert found.finding("rate.efficiency").numbers["efficiency"] == 0


def test_sft_has_the_constant_of_a_multinomial():
    """Winners are d_x n_x draws from a distribution on V responses, d_x the share of y ≠ y': (V − 1)/(2 d_x) each."""
    different = 1 - (SMALL.data_policy**2).sum(1)
    exact = ((SMALL.vocab - 1) / (2 * different)).sum()
    constant = asymptotics(of("sft"))
    assert constant.delta == pytest.approx(exact, rel=1e-6)
    assert contains(constant.simulated, exact)


@pytest.mark.parametrize("name", ["dpo", "rlhf"])
def test_dpo_and_rlhf_spread_as_their_reward_over_beta(name):
    """log π̂ = r̂/β + const, r̂ efficient: the likelihood's covariance times (γ/β)², weighed by the limit."""
    beta = 2.5
    mixed = log_softmax(np.log(SMALL.reference) + SMALL.gamma / beta * np.log(SMALL.target), axis=1)
    total = sum(np.trace(matrix) for matrix in spread(SMALL, mixed, beta)) / 2
    constant = asymptotics(of(name, beta=beta))
    assert constant.delta == pytest.approx(total, rel=1e-6)
    assert contains(constant.simulated, total)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ipo", {"tau": 0.5}),
        ("simpo", {}),
        ("rkl", {"beta": 0.5}),
        ("pmle", {"beta": 0.1}),
        ("pref-distill", {"beta": 0.1}),
        ("d-dpo", {"beta": 1.0}),
        ("rebel", {"eta": 0.5}),
        ("p-dpo", {"beta": 1.0, "lambda_": 0.1}),
        ("hypo", {"beta": 1.0, "kl": 0.1}),
        ("chipo", {"beta": 0.5}),
        ("drdo", {}),
    ],
)
def test_the_delta_method_agrees_with_simulation(name, values):
    constant = asymptotics(of(name, **values))
    assert contains(constant.simulated, constant.delta)
    assert 0.9 < constant.ratio < 1.1
    # So large an n that the constant is all there is.
    assert constant.delta / constant.n < 1e-6


def test_an_ensemble_has_no_constant():
    audited = of("e-dpo", lambda_=0.1)
    assert asymptotics(audited) is None
    verdicts = {f.id: f.verdict for f in efficiency.section(audited).findings}
    assert verdicts["rate.constant"] == "does not apply"
    assert verdicts["rate.efficiency"] == "none"
    assert verdicts["rate.slope"] == "no"


# --- The curve. ---------------------------------------------------------------------------------------------


def test_the_curve_of_a_consistent_loss_is_c_over_n():
    curve = learning_curve(of(right))
    assert curve.to_target.shape == curve.to_limit.shape == (6, 32)
    np.testing.assert_allclose(curve.to_target, curve.to_limit, rtol=1e-4)
    expected = cramer_rao(SMALL) / curve.sizes[2:]
    # ½ δᵀSδ of a normal δ has variance ½ tr((S I⁺)²)/n²; four standard errors of a mean of 32.
    deviation = np.sqrt(sum(np.trace(m @ m) for m in spread(SMALL, np.log(SMALL.target), SMALL.gamma)) / 2)
    error = 4 * deviation / np.sqrt(32) / curve.sizes[2:]
    assert (abs(curve.to_target[2:].mean(1) - expected) <= error).all()
    assert -1.1 < curve.slope(curve.to_target).value < -0.9


def test_the_curve_of_a_biased_loss_ends_at_its_floor():
    audited = of(square)
    curve = learning_curve(audited)
    np.testing.assert_allclose(curve.to_target[-1], audited.limit.forward_kl, rtol=1e-3)
    assert abs(curve.slope(curve.to_target).value) < 1e-3
    assert -1.1 < curve.slope(curve.to_limit).value < -0.9
    slope = efficiency.section(audited).finding("rate.slope").numbers
    assert slope["slope"] == curve.slope(curve.to_target).value
    assert slope["interval"][0] <= slope["slope"] <= slope["interval"][1]
    assert -1.1 < slope["slope_to_limit"] < -0.9


def test_data_sets_are_independent_of_one_another_and_of_n():
    audited = of(right)
    few, more = fit_many(audited, 10**6, 3).logp, fit_many(audited, 10**6, 5).logp
    torch.testing.assert_close(few, more[:3], atol=1e-9, rtol=0)
    assert (few[0] - few[1]).abs().max() > 1e-6
    other = fit_many(replace(audited, seed=1), 10**6, 3).logp
    assert (other - few).abs().amax((1, 2)).min() > 1e-6


# --- Where there is nothing to expand about. -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (falling, "it has no population minimiser"),
        (lambda pair: relu(1 - pair.logp_margin), "its population minimiser is not a regular one"),
    ],
    ids=["falls without bound", "kink at the minimum"],
)
def test_irregular_limits_have_no_rate(loss, why):
    loss.__name__ = "loss"
    section = efficiency.section(of(loss, random_instance(0, vocab=2, contexts=1)))
    assert {f.id for f in section.findings} == {"rate.slope", "rate.constant", "rate.efficiency"}
    assert {(f.verdict, f.answer) for f in section.findings} == {("does not apply", why)}
    assert section.tables == ()
    assert section.panels == ()


def test_the_picture_holds_the_curve():
    (panel,) = efficiency.section(of(square)).panels
    labels = [line.label for line in panel.lines]
    assert labels == ["to the target", "to its own limit", "Cramér–Rao limit c/n"]
    bound = panel.lines[-1]
    np.testing.assert_allclose(np.array(bound.y) * np.array(bound.x), cramer_rao(SMALL))
    for line in panel.lines[:2]:
        assert (np.array(line.low) <= np.array(line.high)).all()

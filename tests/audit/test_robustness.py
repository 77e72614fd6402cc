"""Noise, coverage and small classes against closed forms, brute force, finite differences and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from torch.nn.functional import logsigmoid

from theory import objectives
from theory.audit import robustness
from theory.audit.classes import in_policy_class, in_reward_class, least_in_class, trained, with_small_class
from theory.audit.coverage import DATA_SETS, N, coverage, log_slope
from theory.audit.noise import LabelNoise, derivative, flipped, label_noise
from theory.audit.subject import Subject
from theory.audit.tuning import RESOLUTION, table_task, tuned
from theory.errors import UserError
from theory.instances import Instance, random_instance
from theory.instances.mismatch import tilted, with_coverage
from theory.objectives import make
from theory.sampling import population
from theory.simulation import Settings, floor
from theory.solvers.options import Options
from theory.solvers.selection import Search
from theory.statistics.coverage import coverage_table

SMALL = random_instance(1, vocab=4, contexts=2, gamma=1.3)
PAIR = random_instance(2, vocab=2, contexts=3, gamma=1.3)
SMOOTH = [name for name in objectives.names() if objectives.get(name).ensemble == 1]
IDS = [f"robustness.{name}" for name in robustness.QUESTIONS]


def likelihood(pair, *, gamma):
    return -logsigmoid(gamma * pair.logp_margin)


def least_squares(pair):
    return (pair.logp_margin - 1.0) ** 2


def linear(pair):
    return -pair.logp_margin


def bounded(pair):
    return -torch.sigmoid(pair.logp_margin)


def hinge(pair):
    return torch.relu(1 - pair.logp_margin)


def subject(name, instance=SMALL, **kwargs):
    objective = objectives.get(name) if isinstance(name, str) else make(name)
    return Subject(objective, instance=instance, **kwargs)


def fixed(name, instance=SMALL, **kwargs):
    """A subject whose tuned hyperparameter has a middling value: nothing is searched."""
    tuned_one = objectives.get(name).tuned
    values = {tuned_one.name: min(0.5, tuned_one.about.high)} if tuned_one else {}
    return subject(name, instance, values=values, **kwargs)


# --- instances of a chosen coverage ---


@settings(max_examples=20)
@given(seed=st.integers(0, 50), vocab=st.integers(3, 7), log_c=st.floats(0.05, 4))
def test_a_tilted_instance_has_the_coverage_asked_for(seed, vocab, log_c):
    before = random_instance(seed, vocab=vocab, contexts=3, gamma=0.7)
    after = with_coverage(before, 10**log_c)
    assert coverage_table(after) == pytest.approx(10**log_c, rel=1e-8)
    assert np.array_equal(after.target, before.target)
    assert np.array_equal(after.reference, before.reference)
    # μ is a tilt of the target: log μ is an affine function of log π* in every context, with one slope.
    slopes = [np.polyfit(np.log(t), np.log(m), 1)[0] for t, m in zip(after.target, after.data_policy, strict=True)]
    assert np.allclose(slopes, slopes[0], atol=1e-8)


def test_coverage_is_the_largest_ratio_that_any_function_reaches():
    world = with_coverage(random_instance(5, vocab=4, contexts=1), 50.0)
    target, data = world.target[0], world.data_policy[0]

    def ratio(f):
        f = f - data @ f
        return (target @ f**2) / (data @ f**2)

    found = [-minimize(lambda f: -ratio(f), start).fun for start in np.random.default_rng(0).standard_normal((8, 4))]
    assert max(found) == pytest.approx(50.0, rel=1e-4)


def test_coverage_one_is_the_target_itself_and_less_or_too_much_is_refused():
    assert np.allclose(with_coverage(SMALL, 1).data_policy, SMALL.target, atol=1e-15)
    assert np.allclose(tilted(SMALL, 1.0).data_policy, 0.25, atol=1e-15)
    uniform = Instance(np.full((2, 4), 0.25), np.full((2, 4), 0.25))
    for instance, c in ((SMALL, 0.5), (SMALL, np.nan), (uniform, 2.0)):
        with pytest.raises(UserError, match="coverage"):
            with_coverage(instance, c)


# --- label noise ---


def noisy(subject, rate):
    """log π_ε at one noise rate, shape (X, V)."""
    limit = subject.limit
    task = table_task(limit.instance, flipped(limit.task.data, [rate]), subject.settings)
    return Search(subject.objective, [task]).at({n: v[0] for n, v in limit.chosen.hyper.items()}).fits[0].logp[0].numpy()


@given(rate=st.floats(0, 0.49))
def test_flipped_counts_are_the_expectation_of_flipping_each_label(rate):
    data = population(SMALL)
    after = flipped(data, [rate]).wins[0]
    win = SMALL.win_probability()
    mass = data.wins[0] + data.wins[0].swapaxes(1, 2)
    assert np.allclose(after, mass * ((1 - rate) * win + rate * (1 - win)), atol=1e-15)


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_two_responses_of_a_likelihood_under_noise(rate):
    # One log-odds a context: γ·log-odds of π_ε is the logit of the noisy win probability.
    logp = noisy(subject(likelihood, PAIR), rate)
    win = PAIR.win_probability()[:, 0, 1]
    expected = logit((1 - rate) * win + rate * (1 - win)) / PAIR.gamma
    assert np.allclose(logp[:, 0] - logp[:, 1], expected, atol=1e-8)


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_supervised_fine_tuning_under_noise_mixes_winners_and_losers(rate):
    wins = population(SMALL).frequencies[0]
    winners, losers = (w / w.sum(1, keepdims=True) for w in (wins.sum(2), wins.sum(1)))
    assert np.allclose(np.exp(noisy(subject("sft"), rate)), (1 - rate) * winners + rate * losers, atol=1e-9)
    assert np.allclose(derivative(subject("sft").limit), (losers - winners) / winners, atol=1e-8)


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_least_squares_under_noise_shrinks_every_log_odds_alike(rate):
    clean, after = noisy(subject(least_squares), 0.0), noisy(subject(least_squares), rate)
    centred = [z - z.mean(1, keepdims=True) for z in (clean, after)]
    assert np.allclose(centred[1], (1 - 2 * rate) * centred[0], atol=1e-8)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_derivative_is_what_a_little_noise_does(name):
    one = fixed(name)
    step = 1e-4
    difference = (noisy(one, step) - noisy(one, -step)) / (2 * step)
    found = derivative(one.limit)
    # Newton stops at a gradient of 1e-10, which the difference magnifies.
    assert np.abs(found - difference).max() < 1e-4 * max(1.0, np.abs(found).max())


@pytest.mark.parametrize("name", ["rkl", "drdo", "sft"])
def test_the_shift_is_quadratic_with_the_curvature_stated(name):
    found = label_noise(fixed(name), rates=(0.0, 1e-4, 0.1))
    assert found.shift[0] == pytest.approx(0, abs=1e-14)
    assert found.shift[1] == pytest.approx(found.curvature * 1e-8, rel=0.01)


def test_a_true_reward_is_immune_to_flipped_labels_and_a_learned_one_is_not():
    true, learned = (label_noise(subject("rlhf", values={"beta": 1.0}, options=Options(oracle=o))) for o in ("true", "learned"))
    assert true.shift.max() < 1e-14
    assert learned.at(0.1) > 1e-3


@given(q=st.floats(0.01, 10), error=st.floats(1e-6, 1e-2))
def test_noise_that_costs_as_much_as_an_error_inverts_the_curve(q, error):
    rates = np.array([0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4])
    found = LabelNoise(rates, rates, q * rates**2, q, 0 * rates, rates >= 0)
    exact = math.sqrt(error / q)
    got = found.as_much_as(error)
    assert got is None if exact > 0.4 * (1 + 1e-9) else got is None or got == pytest.approx(exact, rel=1e-9)
    assert exact > 0.4 * (1 - 1e-9) or got is not None


# --- tuning in a batch ---


@pytest.mark.parametrize("name", ["rkl", "simpo", "p-dpo"])
def test_a_batch_of_values_finds_the_floor_that_a_path_finds(name):
    rule = Settings(objectives.get(name))
    world = with_coverage(SMALL, 30.0)
    found = tuned([SMALL, world], rule)
    assert found.forward_kl == pytest.approx([floor(SMALL, rule), floor(world, rule)], abs=10 * RESOLUTION, rel=1e-5)


def test_the_floor_of_rlhf_is_the_best_power_of_the_target():
    def distance(log_beta):
        logits = np.log(SMALL.reference) + SMALL.gamma * np.log(SMALL.target) / math.exp(log_beta)
        log_pi = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return (SMALL.target * (np.log(SMALL.target) - log_pi)).sum(1).mean()

    best = minimize_scalar(distance, bounds=(math.log(1e-2), math.log(1e2)), method="bounded", options={"xatol": 1e-10}).fun
    assert tuned([SMALL], Settings(objectives.get("rlhf"))).forward_kl[0] == pytest.approx(best, abs=RESOLUTION)


# --- coverage ---


@given(a=st.floats(-3, 3), b=st.floats(0.1, 10))
def test_a_power_law_has_its_exponent_as_slope(a, b):
    x = np.array([1.0, 10.0, 100.0])
    assert log_slope(x, (b * x**a)[:, None])[0] == pytest.approx(a, abs=1e-9)


def test_an_efficient_method_follows_the_cramer_rao_constant_as_coverage_worsens():
    found = coverage(subject("rkl"), coefficients=(1.0, 10.0, 100.0))
    assert found.floor.max() < 1e-10
    assert np.allclose(found.constant, found.efficient, rtol=1e-6)
    assert found.errors.shape == (3, DATA_SETS)
    # n·KL is about ½χ² with 6 degrees of freedom when μ = π*: mean c, variance of order c.
    scaled = N * found.errors[0]
    assert abs(scaled.mean() - found.constant[0]) < 4 * scaled.std() / math.sqrt(DATA_SETS)


def test_dpo_converges_to_the_same_policy_whatever_the_data_cover():
    found = coverage(fixed("dpo"), coefficients=(1.0, 100.0))
    assert found.floor[0] == pytest.approx(found.floor[1], rel=1e-6)
    found = coverage(fixed("sft"), coefficients=(1.0, 100.0))
    assert found.floor[1] > 5 * found.floor[0]


# --- classes ---


def in_class(features, cost):
    """The log-linear policy with the least ``cost(log π)``, by scipy."""

    def logp(w):
        logits = features @ w
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    return logp(minimize(lambda w: cost(logp(w)), np.zeros(features.shape[-1]), tol=1e-12).x)


def distance(world, logp):
    return world.context_weights @ (world.target * (np.log(world.target) - logp)).sum(1)


def test_the_best_of_a_class_is_what_scipy_finds():
    base = random_instance(3, vocab=5, contexts=3)
    weighted = Instance(base.target, base.reference, context_weights=np.array([0.5, 0.3, 0.2]))
    world = with_small_class(weighted)
    expected = in_class(world.features, lambda logp: distance(world, logp))
    assert least_in_class(world) == pytest.approx(distance(world, expected), abs=1e-9)


def test_the_class_contains_the_reference_and_not_the_target():
    world = with_small_class(random_instance(3, vocab=5, contexts=3))
    assert world.features.shape == (3, 5, 3)
    logits = world.features @ np.array([1.0, 0.0, 0.0])
    assert np.allclose(logits, np.log(world.reference))
    assert least_in_class(world) > 1e-3
    assert with_small_class(PAIR).features.shape == (3, 2, 1)
    assert with_small_class(world) is world


def test_limits_in_a_policy_class_are_what_scipy_finds():
    base = random_instance(3, vocab=5, contexts=3, gamma=1.3)
    wins = population(base).wins[0]

    def log_loss(logp):
        return (wins * np.logaddexp(0, -base.gamma * (logp[:, :, None] - logp[:, None, :]))).sum()

    costs = {"sft": lambda logp: -(wins.sum(2) * logp).sum(), likelihood: log_loss}
    for name, cost in costs.items():
        found = in_policy_class(subject(name, base))
        expected = distance(found.world, in_class(found.world.features, cost))
        assert found.forward_kl == pytest.approx(expected, abs=1e-7)
        assert found.excess > 0


def test_a_small_reward_class_projects_the_preferences():
    base = random_instance(3, vocab=5, contexts=3)
    found = in_reward_class(subject("reward", base))
    wins = population(base).wins[0]

    def cost(w):
        r = found.world.features @ w
        return (wins * np.logaddexp(0, -(r[:, :, None] - r[:, None, :]))).sum()

    r = found.world.features @ minimize(cost, np.zeros(3), tol=1e-12).x
    expected = distance(found.world, r - np.log(np.exp(r).sum(1, keepdims=True)))
    assert found.forward_kl == pytest.approx(expected, abs=1e-7)
    # RKL with β = 0 turns that reward into the same policy.
    assert in_reward_class(subject("rkl", base, values={"beta": 0.0})).forward_kl == pytest.approx(expected, abs=1e-7)


def test_a_class_that_contains_the_target_costs_a_likelihood_nothing():
    world = random_instance(3, vocab=5, contexts=3, features=2, realizable=True)
    assert robustness.section(subject(likelihood, world)).finding("robustness.policy_class").verdict == "yes"
    assert robustness.section(subject("rkl", world)).finding("robustness.reward_class").verdict == "nothing"
    assert in_policy_class(subject(likelihood, world)).forward_kl < 1e-12


# --- the section ---


@pytest.mark.parametrize("name", objectives.names())
def test_every_method_gets_every_finding(name):
    one = fixed(name)
    section = robustness.section(one)
    assert [f.id for f in section.findings] == IDS
    verdicts = {f.id.split(".")[1]: f.verdict for f in section.findings}
    assert (verdicts["policy_class"] == "does not apply") == ("policy" not in trained(one))
    reads = one.objective.needs_reward or one.objective.reads("student_reward")
    assert (verdicts["reward_class"] == "does not apply") == (not reads)
    for f in section.findings:
        if "excess" in f.numbers:
            assert f.numbers["forward_kl"] >= f.numbers["best_in_class"] - 1e-9 or f.id.endswith("reward_class")
    for table in section.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_verdicts_on_losses_whose_truth_is_known():
    def verdict(section, id):
        return section.finding(f"robustness.{id}").verdict

    for flight in (linear, bounded):
        section = robustness.section(subject(flight))
        assert {f.verdict for f in section.findings} == {"no minimiser"}
        assert [f.id for f in section.findings] == IDS
    kinked = robustness.section(subject(hinge))
    assert verdict(kinked, "label_noise") == verdict(kinked, "coverage") == "not decided"
    assert verdict(robustness.section(subject(likelihood)), "label_noise") == "sensitive"
    coins = Instance(np.full((2, 4), 0.25), np.full((2, 4), 0.25))
    fair = robustness.section(subject(likelihood, coins))
    assert verdict(fair, "label_noise") == "immune"
    assert verdict(fair, "coverage") == "does not apply"


def test_tied_heads_and_true_rewards_are_told_apart():
    tied = subject("drdo", options=Options(reward_head="tied"))
    assert trained(tied) == ("policy",)
    assert not in_policy_class(tied).both
    assert in_policy_class(subject("drdo")).both
    given_reward = robustness.section(subject("rlhf", options=Options(oracle="true"))).finding("robustness.reward_class")
    assert given_reward.verdict == "does not apply"
    assert "true reward" in given_reward.answer


def test_noise_on_two_responses_in_numbers():
    # The finding's numbers against the closed form of a likelihood with V = 2.
    numbers = robustness.section(subject(likelihood, PAIR)).finding("robustness.label_noise").numbers
    win = PAIR.win_probability()[:, 0, 1]
    for rate, moved in zip(numbers["rates"], numbers["shift"], strict=True):
        p = PAIR.target[:, 0]
        q = expit(logit((1 - rate) * win + rate * (1 - win)) / PAIR.gamma)
        expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
        assert moved == pytest.approx(expected, abs=1e-9)

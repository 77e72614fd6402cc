"""The sandwich against re-solving, closed forms, resampling and the Cramér–Rao constant.

Seeds are fixed. A Monte Carlo comparison allows four standard errors: a false alarm has
probability 6e-5 a number compared, for seeds not yet looked at.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory import objectives
from theory.instances import random_instance
from theory.sampling import WinCounts, draw, population
from theory.solvers.options import Options
from theory.solvers.selection import Search
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World
from theory.statistics import divergences, sandwich
from theory.statistics.efficiency import asymptotic_constant

INSTANCE = random_instance(1, vocab=4, contexts=2, gamma=1.3, ref_noise=0.3)
SMOOTH = [name for name in objectives.names() if objectives.get(name).ensemble == 1]
HEADS = [(name, head) for name in SMOOTH for head in ("separate", "tied") if head == "separate" or name in ("drdo", "oracle")]


def solved(data, name, instance=INSTANCE, values=None, **options):
    """A task on the instance's reference, and the method fitted to it."""
    world = World(torch.from_numpy(np.log(instance.reference)), instance.gamma, torch.from_numpy(instance.reward()))
    task, objective = TableTask(data, world, Options(**options)), objectives.get(name)
    chosen = Search(objective, [task]).at(objective.resolve(values or {}))
    return task, objective, chosen.hyper, chosen.fits[0]


def table(wins):
    """Win counts (X, V, V) as one data set."""
    wins = np.asarray(wins, dtype=np.float64)[None]
    return WinCounts(wins, wins.sum((-1, -2)), float(wins.sum()))


def world_of(contexts, vocab, gamma=1.0):
    return World(torch.full((contexts, vocab), -np.log(vocab), dtype=torch.float64), gamma)


def fitted(wins, name, values=None, **options):
    data = table(wins)
    task = TableTask(data, world_of(*data.wins.shape[1:3]), Options(**options))
    objective = objectives.get(name)
    chosen = Search(objective, [task]).at(objective.resolve(values or {}))
    return task, objective, chosen.hyper, chosen.fits[0]


def perturbed(data, size):
    """Every comparison, and a tie, added to every context with weight ±size: (settings, data sets)."""
    vocab, contexts = data.wins.shape[2], data.wins.shape[1]
    settings, wins, totals = [], [], []
    for x in range(contexts):
        for j, k in [(j, k) for j in range(vocab) for k in range(vocab) if j != k] + [(0, 0)]:
            for sign in (1, -1):
                w, t = data.wins[0].copy(), data.totals[0].copy()
                w[x, j, k] += sign * size * (j != k)
                t[x] += sign * size
                settings.append((x, j, k, sign))
                wins.append(w)
                totals.append(t)
    return settings, WinCounts(np.stack(wins), np.stack(totals), data.n)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize(("name", "head"), HEADS)
def test_influence_is_what_one_more_comparison_does(name, head, ridge):
    # β = 0.5 keeps every policy away from 0, where a weight of 0.01 would not be small.
    objective = objectives.get(name)
    values = {"beta": 0.5} if objective.tuned and objective.tuned.name == "beta" else {}
    data = draw(INSTANCE, 20_000, 0)
    task, objective, hyper, fit = solved(data, name, values=values, ridge=ridge, reward_head=head)
    (found,) = sandwich.sandwiches(task, objective, hyper, fit)
    assert found.identified.all()
    size = 0.01
    settings, moved = perturbed(data, size)
    logp = solved(moved, name, values=values, ridge=ridge, reward_head=head)[3].logp.numpy()
    slope = np.zeros((*found.frequencies.shape, 4))
    for (x, j, k, sign), after in zip(settings, logp, strict=True):
        slope[x, j, k] += sign * after[x] * data.totals[0, x] / (2 * size)
    tie = -torch.einsum("pvd,pd->pv", found.map, found.mean).numpy()
    influence = found.influence().numpy()
    diagonal = np.arange(4)
    influence[:, diagonal, diagonal] = tie[:, None]
    slope[:, diagonal, diagonal] = slope[:, 0, 0][:, None]
    # With a ridge every comparison also dilutes the prior, by the same amount: centre both.
    frequencies = data.frequencies[0]
    ties = 1 - frequencies.sum((1, 2))

    def centred(a):
        return a - (np.einsum("xjk,xjkv->xv", frequencies, a) + ties[:, None] * a[:, 0, 0])[:, None, None]

    # Newton stops at a gradient of 1e-10, which the difference magnifies to 5e-5 at worst.
    scale = np.abs(influence).max()
    assert np.abs(centred(slope) - centred(influence)).max() < 1e-4 * scale
    if ridge == 0:
        assert np.abs(slope - influence).max() < 1e-4 * scale
    # The covariance is the influences' second moment.
    mean = np.einsum("xjk,xjkv->xv", frequencies, influence) + ties[:, None] * tie
    second = (
        np.einsum("xjk,xjkv,xjku->xvu", frequencies, influence, influence) + ties[:, None, None] * tie[:, :, None] * tie[:, None]
    )
    assert np.abs(mean).max() < 1e-9 * scale
    assert np.allclose(second, found.covariance.numpy(), rtol=1e-9, atol=1e-9 * scale**2)


@given(wins=st.integers(1, 500), losses=st.integers(1, 500))
def test_two_responses_give_the_textbook_interval_of_a_log_odds(wins, losses):
    task, objective, hyper, fit = fitted([[[0, wins], [losses, 0]]], "pmle", {"beta": 0.0}, ridge=0.0)
    v = sandwich.variances(task, objective, hyper, fit)
    assert v.identified.all()
    assert v.estimable.all()
    logp = fit.logp.numpy()[0]
    low, high = sandwich.intervals(logp, v.variance[0] / (wins + losses), 0.95)
    odds, se = np.log(wins / losses), np.sqrt(1 / wins + 1 / losses)
    expected = 1 / (1 + np.exp(-(odds + np.array([-1, 1]) * 1.959963984540054 * se)))
    assert [low[0, 0], high[0, 0]] == pytest.approx(expected, rel=1e-7)
    assert [1 - high[0, 1], 1 - low[0, 1]] == pytest.approx(expected, rel=1e-7)


@given(p=st.floats(1e-12, 1 - 1e-12), variance=st.floats(0, 1e4), confidence=st.floats(0.01, 0.99))
def test_intervals_stay_inside_probabilities_and_contain_the_estimate(p, variance, confidence):
    low, high = sandwich.intervals(np.log([p]), np.array([variance]), confidence)
    assert 0 <= low[0] <= p * (1 + 1e-3)
    assert p * (1 - 1e-3) <= high[0] <= 1
    wider = sandwich.intervals(np.log([p]), np.array([variance]), (1 + confidence) / 2)
    assert wider[0][0] <= low[0]
    assert wider[1][0] >= high[0]


@pytest.mark.parametrize("name", ["pmle", "rkl", "pref-distill", "reward"])
@pytest.mark.parametrize(("seed", "gamma"), [(1, 1.0), (2, 2.0)])
def test_efficient_methods_have_the_cramer_rao_constant(name, seed, gamma):
    instance = random_instance(seed, vocab=6, contexts=4, gamma=gamma)
    values = {} if name == "reward" else {"beta": 0.0}
    found = sandwich.variance_constant(*solved(population(instance), name, instance, values))
    assert found == pytest.approx(asymptotic_constant(instance), rel=1e-6)


BIASED = {"dpo": {"beta": 0.5}, "rlhf": {"beta": 0.5}, "d-dpo": {"beta": 0.5}, "sft": {}, "ipo": {"tau": 1.0}, "drdo": {}}


@pytest.mark.parametrize("name", BIASED)
def test_variance_constant_is_the_spread_around_the_limit(name):
    n, seeds = 300_000, 400
    limit = solved(population(INSTANCE), name, values=BIASED[name])
    constant = sandwich.variance_constant(*limit)[0]
    fit = solved(draw(INSTANCE, n, 5, range(seeds)), name, values=BIASED[name], ridge=0.0)[3]
    kl = n * divergences.forward_kl(limit[3].logp, fit.logp, torch.from_numpy(INSTANCE.context_weights)).numpy()
    # Beyond Monte Carlo error, terms of order 1/√n: 2 %.
    assert abs(kl.mean() - constant) < 4 * kl.std() / np.sqrt(seeds) + 0.02 * constant


@pytest.mark.parametrize(
    ("name", "values"), [("pmle", {"beta": 0.0}), ("dpo", {"beta": 0.5}), ("rkl", {"beta": 0.3}), ("ipo", {"tau": 1.0})]
)
def test_intervals_cover_the_limit_as_often_as_they_say(name, values):
    seeds, n = 2_000, 20_000
    limit = solved(population(INSTANCE), name, values=values)[3].logp.exp().numpy()[0]
    data = draw(INSTANCE, n, 11, range(seeds))
    task, objective, hyper, fit = solved(data, name, values=values)
    v = sandwich.variances(task, objective, hyper, fit)
    assert v.identified.all()
    assert v.estimable.all()
    low, high = sandwich.intervals(fit.logp.numpy(), v.variance / data.totals[..., None], 0.95)
    covered = ((low <= limit) & (limit <= high)).mean(0)
    # Binomial standard error 0.0049; the rest is the asymptotics' own error at this n.
    assert np.abs(covered - 0.95).max() < 4 * 0.0049 + 0.005


@pytest.mark.parametrize("name", ["pmle", "d-dpo", "rkl", "drdo", "oracle"])
def test_standard_errors_agree_with_the_bootstrap(name):
    data, resamples = draw(INSTANCE, 1_000_000, 3), 2_000
    values = {"beta": 0.5} if name in ("pmle", "d-dpo", "rkl") else {}
    task, objective, hyper, fit = solved(data, name, values=values)
    variance = sandwich.variances(task, objective, hyper, fit).variance[0] / data.totals[0][:, None]
    rng, wins = np.random.default_rng(0), []
    for cells, total in zip(data.wins[0].reshape(2, -1), data.totals[0], strict=True):
        ties = total - cells.sum()
        drawn = rng.multinomial(int(total), np.append(cells, ties) / total, size=resamples)
        wins.append(drawn[:, :-1].reshape(resamples, 1, 4, 4))
    again = WinCounts(np.concatenate(wins, 1).astype(float), np.repeat(data.totals, resamples, 0), data.n)
    spread = solved(again, name, values=values)[3].logp.numpy().std(0)
    # A standard deviation from 2,000 draws has relative error 1/√4000 = 1.6 %.
    assert spread == pytest.approx(np.sqrt(variance), rel=4 * 0.016)


def test_parts_never_compared_are_not_identified_by_a_ridge_but_are_by_a_kl_term():
    split = np.zeros((2, 4, 4))
    split[:, 0, 1], split[:, 1, 0], split[:, 2, 3], split[:, 3, 2] = 6, 4, 3, 7
    split[1, 1, 2] = split[1, 2, 1] = 5  # the second context is connected
    for name, values in (("dpo", {"beta": 0.5}), ("reward", {}), ("rkl", {"beta": 0.1}), ("d-dpo", {})):
        assert sandwich.variances(*fitted(split, name, values)).identified.tolist() == [[False, True]], name
    assert sandwich.variances(*fitted(split, "pmle", {"beta": 0.1})).identified.all()


def test_a_focal_term_that_vanishes_leaves_the_policy_open():
    # With V = 2 and a head of its own, DRDO's focal term is identically 0.
    assert not sandwich.variances(*fitted([[[0, 6], [4, 0]]], "drdo")).identified.any()
    assert sandwich.variances(*fitted([[[0, 6], [4, 0]]], "drdo", reward_head="tied")).identified.all()


def test_data_that_do_not_vary_have_no_variance_to_estimate():
    wins = [[[0, 1], [0, 0]], [[0, 9], [0, 0]], [[0, 9], [1, 0]]]
    v = sandwich.variances(*fitted(wins, "pmle", {"beta": 0.5}))
    assert v.estimable.tolist() == [[False, False, True]]
    assert v.identified.all()
    cycle = np.zeros((1, 3, 3))
    cycle[0, [0, 1, 2], [1, 2, 0]] = 1
    assert sandwich.variances(*fitted(cycle, "pmle", {"beta": 0.5})).estimable.all()
    cycle[0, 2, 0] = 0
    assert not sandwich.variances(*fitted(cycle, "pmle", {"beta": 0.5})).estimable.any()


def test_a_true_reward_leaves_an_on_policy_method_nothing_random():
    task, objective, hyper, fit = solved(draw(INSTANCE, 1000, 0), "rlhf", values={"beta": 1.0}, oracle="true")
    v = sandwich.variances(task, objective, hyper, fit)
    assert (v.variance == 0).all()
    assert not v.estimable.any()


def test_a_policy_near_a_corner_is_identified_all_the_same():
    # Probabilities down to 1e-12: the Hessian's entries span twelve orders of magnitude.
    wins = np.array([[[0, 60, 70], [40, 0, 65], [30, 35, 0]]])
    task, objective, hyper, fit = fitted(wins, "rlhf", {"beta": 0.05})
    assert fit.logp.min() < -12
    v = sandwich.variances(task, objective, hyper, fit)
    assert v.identified.all()
    # The closed form log π = r̂/β + const: the variance of a log-ratio is that of Δr̂ over β².
    reward = sandwich.variances(*fitted(wins, "reward"))
    assert reward.identified.all()
    (rlhf,) = sandwich.sandwiches(task, objective, hyper, fit)
    (plain,) = sandwich.sandwiches(*fitted(wins, "reward"))
    e = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    assert float(e @ rlhf.covariance[0] @ e) == pytest.approx(float(e @ plain.covariance[0] @ e) / 0.05**2, rel=1e-6)


def test_chunks_change_nothing(monkeypatch):
    fit = solved(draw(INSTANCE, 5_000, 2, range(3)), "d-dpo")
    whole = sandwich.variances(*fit)
    monkeypatch.setattr(sandwich, "CHUNK", 16)
    assert len(list(sandwich.sandwiches(*fit))) == 6
    parts = sandwich.variances(*fit)
    assert np.allclose(whole.variance, parts.variance, rtol=1e-12)
    assert whole.variance.shape == (3, 2, 4)
    assert (whole.estimable == parts.estimable).all()


def test_ensembles_and_shared_parameters_are_declined():
    with pytest.raises(NotImplementedError, match="ensemble"):
        sandwich.variances(*solved(draw(INSTANCE, 5_000, 2), "e-dpo"))
    instance = random_instance(1, vocab=4, contexts=2, features=2)
    phi = torch.from_numpy(instance.features)
    task = TableTask(
        draw(instance, 5_000, 2), World(torch.from_numpy(np.log(instance.reference)), 1.0, None, phi, phi), Options()
    )
    objective = objectives.get("dpo")
    chosen = Search(objective, [task]).at(objective.resolve({}))
    with pytest.raises(NotImplementedError, match="share"):
        sandwich.variances(task, objective, chosen.hyper, chosen.fits[0])

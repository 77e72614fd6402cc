"""Closed forms: against Newton from another start, and against the formulas written out in numpy."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax, wrightomega

from theory.instances import random_instance
from theory.objectives import get
from theory.objectives.rkl import rlhf_reward
from theory.sampling import draw, population
from theory.simulation import Settings, make_task
from theory.solvers.closed import closed_kind
from theory.solvers.options import Options

SEEDS = 3


@pytest.fixture(scope="module")
def instance():
    return random_instance(5, vocab=5, contexts=3, gamma=1.7)


@pytest.fixture(scope="module")
def task(instance):
    return make_task(instance, draw(instance, 3_000, 2, range(SEEDS)), Settings(get("dpo"), options=Options(ridge=0.3)))


def _hyper(seeds=SEEDS, **values):
    return {name: torch.full((seeds,), value, dtype=torch.float64) for name, value in values.items()}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rlhf", {"beta": 0.4}),
        ("rkl", {"alpha": 0.8, "beta": 0.3}),
        ("rkl", {"alpha": 1.0, "beta": 0.0}),
        ("dpo", {"beta": 0.2}),
        ("pmle", {"beta": 0.0}),
        ("hypo", {"beta": 0.3, "kl": 0.0}),
        ("p-dpo", {"beta": 0.3, "lambda_": 0.0}),
    ],
)
def test_equal_newton_from_another_start(task, name, values):
    objective, hyper = get(name), _hyper(**values)
    (reward,) = task.rewards(objective)
    assert task.has_closed_form(objective, hyper)
    closed = task.minimise(objective, hyper, reward, task.log_ref)
    start = torch.randn(task.log_ref.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = task.iterate(objective, hyper, reward, start)
    torch.testing.assert_close(closed.logp.exp(), found.logp.exp(), rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(closed.value, found.value, rtol=0, atol=1e-10)
    assert (closed.gradient_norm <= 1e-8).all()


def test_formulas_of_the_papers(task, instance):
    """Unified eq. 1 and App. B in numpy: π ∝ π_ref e^{r/β}, π ∝ exp((r/γ + β log π_ref)/(α + β)), e^{r/γ}."""
    r, log_ref, gamma = task.reward_fit.reward.numpy(), np.log(instance.reference), instance.gamma
    expected = {
        ("rlhf", ("beta", 0.4)): log_ref + r / 0.4,
        ("dpo", ("beta", 0.4)): log_ref + r / 0.4,
        ("rkl", ("alpha", 0.7), ("beta", 0.2)): (r / gamma + 0.2 * log_ref) / 0.9,
        ("pmle", ("beta", 0.0)): r / gamma,
    }
    for (name, *values), logits in expected.items():
        objective = get(name)
        fit = task.minimise(objective, _hyper(**dict(values)), task.rewards(objective)[0], task.log_ref)
        np.testing.assert_allclose(fit.logp.numpy(), log_softmax(logits, -1), rtol=0, atol=1e-10)


def test_rkl_is_rlhf_with_another_reward(task, instance):
    alpha, beta = 0.6, 0.25
    reward = task.reward_fit.reward
    rkl = task.minimise(get("rkl"), _hyper(alpha=alpha, beta=beta), reward, task.log_ref)
    transformed = rlhf_reward(reward, task.log_ref, gamma=instance.gamma, alpha=alpha)
    rlhf = task.minimise(get("rlhf"), _hyper(beta=alpha + beta), transformed, task.log_ref)
    torch.testing.assert_close(rkl.logp, rlhf.logp, rtol=0, atol=1e-10)
    iterated = task.iterate(get("rlhf"), _hyper(beta=alpha + beta), transformed, torch.zeros_like(task.log_ref))
    torch.testing.assert_close(rkl.logp, iterated.logp, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "values", "slope"),
    [("d-dpo", {"beta": 0.4}, 0.4), ("rebel", {"eta": 1.6}, 1 / 1.6), ("ipo", {"tau": 0.3}, 1.0)],
)
def test_least_squares_on_the_comparison_graph(instance, name, values, slope):
    """Σ W_ij (k(u_i − u_j) − t_ij)², u = log π/π_ref, by numpy's lstsq over the pairs that were seen."""
    data = draw(instance, 800, 7, range(SEEDS))
    task = make_task(instance, data, Settings(get(name), options=Options(ridge=0.0)))
    objective = get(name)
    (reward,) = task.rewards(objective)
    fit = task.iterate(objective, _hyper(**values), reward, task.log_ref)
    for s in range(SEEDS):
        for x in range(instance.contexts):
            rows, targets = [], []
            for i, j in np.argwhere(data.wins[s, x] > 0):
                weight, row = np.sqrt(data.wins[s, x, i, j]), np.zeros(instance.vocab)
                row[i], row[j] = slope, -slope
                target = 1 / (2 * values["tau"]) if name == "ipo" else float(reward[s, x, i] - reward[s, x, j])
                rows.append(weight * row)
                targets.append(weight * target)
            u = np.linalg.lstsq(np.array(rows), np.array(targets), rcond=None)[0]
            expected = log_softmax(u + np.log(instance.reference[x]))
            np.testing.assert_allclose(fit.logp[s, x].numpy(), expected, rtol=0, atol=1e-8)


def test_distillation_on_a_connected_graph_is_the_rlhf_optimum(task):
    """drdo eq. 4: the regression has no residual, so d-DPO and REBEL reach RLHF's closed form."""
    reward = task.reward_fit.reward
    rlhf = task.minimise(get("rlhf"), _hyper(beta=0.5), reward, task.log_ref)
    for name, values in (("d-dpo", {"beta": 0.5}), ("rebel", {"eta": 2.0})):
        fit = task.iterate(get(name), _hyper(**values), reward, torch.zeros_like(task.log_ref))
        torch.testing.assert_close(fit.logp, rlhf.logp, rtol=0, atol=1e-7)
        assert fit.value.abs().max() < 1e-14


def test_pref_distill_without_kl_is_the_reward_model(task, instance):
    fit = task.iterate(get("pref-distill"), _hyper(beta=0.0), task.reward_fit.reward, task.log_ref)
    expected = log_softmax(task.reward_fit.reward.numpy() / instance.gamma, -1)
    np.testing.assert_allclose(fit.logp.numpy(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0])
def test_chipo_population(instance, beta):
    """φ(z) = z + log z = (r* + c)/β has the solution z = ω((r* + c)/β), Wright's omega; Σ π_ref z = 1 fixes c."""
    task = make_task(instance, population(instance), Settings(get("chipo")))
    fit = task.iterate(get("chipo"), _hyper(1, beta=beta, r_max=1e4), None, task.log_ref)
    for x in range(instance.contexts):
        reward, reference = instance.gamma * np.log(instance.target[x]), instance.reference[x]

        def excess(c, reward=reward, reference=reference):
            return float(reference @ wrightomega((reward + c) / beta).real) - 1

        c = brentq(excess, -50, 50, xtol=1e-14)
        expected = reference * wrightomega((reward + c) / beta).real
        np.testing.assert_allclose(fit.logp[0, x].exp().numpy(), expected, rtol=1e-5)


def test_population_limits(instance):
    """[math §2] dpo and rlhf: π_ref (π*)^{γ/β}/Z; rkl, pmle, pref-distill at β = 0: π*; sft: the winners."""
    task = make_task(instance, population(instance), Settings(get("dpo")))
    target, reference, mu = instance.target, instance.reference, instance.data_policy
    tempered = softmax(np.log(reference) + instance.gamma / 0.6 * np.log(target), -1)
    beats = instance.win_probability()
    for x in range(instance.contexts):
        np.fill_diagonal(beats[x], 0)
    winners = np.stack([2 * mu[x] * (beats[x] @ mu[x]) for x in range(instance.contexts)])
    expected = {
        "dpo": ({"beta": 0.6}, tempered),
        "rlhf": ({"beta": 0.6}, tempered),
        "d-dpo": ({"beta": 0.6}, tempered),
        "rebel": ({"eta": 1 / 0.6}, tempered),
        "rkl": ({"alpha": 1.0, "beta": 0.0}, target),
        "pmle": ({"beta": 0.0}, target),
        "pref-distill": ({"beta": 0.0}, target),
        "reward": ({}, target),
        "sft": ({}, winners / winners.sum(1, keepdims=True)),
    }
    for name, (values, policy) in expected.items():
        objective = get(name)
        fit = task.minimise(objective, _hyper(1, **values), task.rewards(objective)[0], task.log_ref)
        np.testing.assert_allclose(fit.logp[0].exp().numpy(), policy, rtol=1e-6, err_msg=name)


def test_which_objectives_have_one():
    kinds = {
        ("rlhf", ()): "on-policy",
        ("rkl", ()): "on-policy",
        ("dpo", ()): "bradley-terry",
        ("pmle", ()): None,
        ("pmle", (("beta", 0.0),)): "bradley-terry",
        ("p-dpo", ()): None,
        ("hypo", (("kl", 0.0),)): "bradley-terry",
        ("pref-distill", (("beta", 0.0),)): None,
        ("simpo", ()): None,
        ("d-dpo", ()): None,
        ("drdo", ()): None,
    }
    for (name, values), kind in kinds.items():
        hyper = {k: torch.tensor([v], dtype=torch.float64) for k, v in get(name).resolve(dict(values)).items()}
        assert closed_kind(get(name), 1.0, hyper) == kind, name

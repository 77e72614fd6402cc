import numpy as np
import pytest
import torch

from paper_checks.claims import Verdict
from paper_checks.unified import convergence
from theory.instances import Instance, random_instance


def test_limit_of_both_by_hand():
    instance = Instance(np.array([[0.8, 0.2]]), np.array([[0.6, 0.4]]), gamma=0.5)
    found = convergence.limit_of_both(instance, 0.25)[0, 0].exp()  # exponent γ/β = 2
    assert float(found[0]) == pytest.approx(0.6 * 0.64 / (0.6 * 0.64 + 0.4 * 0.04))


def test_unregularised_reaches_the_target_only_with_enough_data():
    instance = random_instance(3, vocab=4, contexts=2)
    assert convergence.unregularised(instance, np.inf, "pmle")[0] < 1e-14
    assert convergence.unregularised(instance, 1000, "pmle")[0] > 1e-4


def test_dpo_held_at_another_beta_is_found_out(monkeypatch):
    honest = convergence.by_newton
    monkeypatch.setattr(convergence, "by_newton", lambda task, name, beta: honest(task, name, beta=1.1 * beta))
    assert convergence.dpo_and_rlhf_agree().verdict is Verdict.FAILS


def test_squared_loss_costs_nothing_on_two_responses():
    # One pair a context and one feature: every weighting gives the same projection.
    instance = random_instance(0, vocab=2, contexts=1, features=1, realizable=True)
    log_loss, squared = convergence.squared_loss_cost(instance)
    assert squared == pytest.approx(log_loss, rel=1e-9)


def test_squared_loss_cost_by_brute_force():
    # Draw the table's estimate from its normal limit and project it by least squares on all pairs.
    instance = random_instance(0, vocab=5, contexts=2, gamma=3.0, features=2, realizable=True)
    rng, n = np.random.default_rng(0), 1e8
    truth, phi = np.log(instance.target), instance.features
    mu = instance.data_policy
    weights = {"log-loss": [], "squared": []}
    for x in range(2):
        win = instance.win_probability()[x]
        pairs = mu[x][:, None] * mu[x]
        weights["squared"].append(pairs)
        weights["log-loss"].append(pairs * win * (1 - win))
    noisy = []
    for x in range(2):
        edges = 2 * instance.gamma**2 * weights["log-loss"][x]
        np.fill_diagonal(edges, 0)
        covariance = np.linalg.pinv(np.diag(edges.sum(1)) - edges, hermitian=True) / (n * 0.5)
        noisy.append(truth[x] + rng.multivariate_normal(np.zeros(5), covariance, size=20_000, method="eigh"))
    for name, exact in zip(("log-loss", "squared"), convergence.squared_loss_cost(instance), strict=True):
        rows, goals = [], []
        for x in range(2):
            root = np.sqrt(weights[name][x]).reshape(-1, 1)
            rows.append(root * (phi[x][:, None] - phi[x][None]).reshape(25, 2))
            goals.append(root * (noisy[x][:, :, None] - noisy[x][:, None]).reshape(-1, 25).T)
        w = np.linalg.lstsq(np.concatenate(rows), np.concatenate(goals), rcond=None)[0]
        logits = np.einsum("xvd,ds->sxv", phi, w)
        log_pi = torch.log_softmax(torch.from_numpy(logits), -1)
        assert n * convergence.distance(instance, log_pi).mean() == pytest.approx(exact, rel=0.05)


def test_a_uniform_reference_alone_makes_rlhf_a_reverse_kl():
    finding = convergence.rlhf_as_reverse_kl()
    assert finding.evidence["limits_that_reach_the_target"] == ["beta = γ, π_ref → uniform"]

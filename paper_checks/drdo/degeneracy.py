"""Lemma 1a and 1b: what DPO makes of a pair whose preference is not deterministic, and of one whose labels agree."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import sympy as sp
import torch
from scipy.special import wrightomega
from scipy.stats import entropy

from paper_checks.claims import Finding, claim
from paper_checks.drdo.comparisons import task_of, vanishing
from paper_checks.drdo.flow import gradient_flow
from paper_checks.drdo.outcome import conditional, error, judged
from theory import objectives
from theory.degeneracy import Design, degeneracy, unanimity
from theory.instances import Instance, random_instance
from theory.instances.tabular import Array, expit
from theory.objectives.dpo import implicit_reward
from theory.simulation import Settings, draw_data, make_task, solve

BETAS = (0.01, 0.1, 1.0, 10.0)
LABELS = (1, 2, 3, 5, 10)
# Responses 0 and 1 are equally good; the reference and the data prefer one of them.
FAIR_PAIR = Instance(np.array([[0.3, 0.3, 0.25, 0.15]]), np.array([[0.1, 0.4, 0.3, 0.2]]), name="a fair pair")


def population_margins(instance: Instance, beta: float) -> Array:
    """DPO's implicit-reward margins β(Δlogπ − Δlogπ_ref) of every pair at n = ∞, shape (X, V, V), nats."""
    settings = Settings(objectives.get("dpo"), {"beta": beta}, rule="fixed")
    task = make_task(instance, draw_data(instance, math.inf, 0), settings)
    logp, log_ref = solve(instance, task, settings).logp[0], np.log(instance.reference)
    implicit = implicit_reward(torch.from_numpy(logp), torch.from_numpy(log_ref), beta=beta).numpy()
    return np.asarray(implicit[:, :, None] - implicit[:, None, :])


def best_margin() -> sp.Expr:
    """The minimiser u of a pair's expected loss −P log σ(u) − (1 − P) log(1 − σ(u)), symbolically."""
    p, odds = sp.symbols("p odds", positive=True)
    sigma = odds / (1 + odds)
    (solution,) = sp.solve(sp.diff(-p * sp.log(sigma) - (1 - p) * sp.log(1 - sigma), odds), odds)
    return sp.log(solution)


@claim(
    "drdo-lemma-1a",
    statement="Lemma 1a",
    says="On a pair preferred with probability ½, DPO's implicit reward difference goes to zero.",
    assumes="Proposition 1: P = ½ and Bradley–Terry preferences.",
    predicts="β(Δlogπ − Δlogπ_ref) = 0 at the minimiser, for every β.",
    tested=(
        "the minimiser of a pair's expected loss, symbolically; the population fit of four responses, two of them tied; "
        "and m labels of a fair pair, exactly and simulated (400 data sets of 5 pairs, 95% Wilson intervals)"
    ),
    expects="holds-if",
)
def fair_pair_margin() -> Finding:
    """The margin is log P/(1 − P) in the population; m labels agree with probability 2^{1−m}, and it is then infinite."""
    u = best_margin()
    at_half = u.subs({s: sp.Rational(1, 2) for s in u.free_symbols})
    largest = max(float(abs(population_margins(FAIR_PAIR, beta)[0, 0, 1])) for beta in BETAS)
    rows = {m: degeneracy(objectives.get("dpo"), {"beta": 0.1}, Design(), m, 0.5) for m in (1, 3)}
    simulated = {str(m): [r.unanimous.low, r.unanimous.value, r.unanimous.high] for m, r in rows.items()}
    evidence = {
        "minimiser": str(u),
        "at_one_half": str(at_half),
        "largest_population_margin": error(largest),
        "unanimous_probability_by_labels": {str(m): unanimity(m, 0.5) for m in LABELS},
        "unanimous_share_simulated": simulated,
        "data_sets_with_finite_minimiser": {str(m): r.finite for m, r in rows.items()},
    }
    drained = vanishing(objectives.get("dpo"), task_of([(0, 1, 3)], 3), beta=0.1)
    finite = at_half == 0 and largest < 1e-8
    example = {"labels": "3 of 3 for response 0, probability ¼ for a fair pair", "probability_to_zero": drained}
    return conditional(
        finite,
        drained == [1],
        evidence,
        assumption="the pair is labelled both ways equally often, as in the population; with m labels it need not be",
        counterexample=example,
    )


@claim(
    "drdo-lemma-1a-underfitting",
    statement="Lemma 1a, §3 and A.2",
    says="The vanishing reward difference means that DPO underfits the preference distribution.",
    assumes="Proposition 1; DPO's minimiser in the population.",
    predicts="the preferences that the implicit reward implies differ from the true ones, most on fair pairs.",
    tested=(
        "KL between true and implied preference of every pair: the tied instance and two random ones "
        "(V = X = 10, seeds 0 and 1), β from 0.01 to 10; and what a margin other than 0 would cost"
    ),
    expects="fails",
)
def zero_margin_fits() -> Finding:
    """The implied preference is the true one, so a zero margin is the exact fit of P = ½."""
    instances = {"tied": FAIR_PAIR, **{f"random, seed {s}": random_instance(s) for s in (0, 1)}}
    worst = {
        name: max(float(np.abs(expit(population_margins(i, b)) - i.win_probability()).max()) for b in BETAS)
        for name, i in instances.items()
    }
    cost = {f"{u:g}": float(entropy([0.5, 0.5], expit(np.array([u, -u])))) for u in (0.0, 0.5, 1.0, 2.0)}
    evidence = {
        "largest_error_of_implied_preference": {name: error(size) for name, size in worst.items()},
        "kl_of_true_from_implied_by_margin_at_one_half": cost,
        # A policy regularised towards π_ref keeps π_ref's ratio where the rewards are equal.
        "policy_ratio_on_the_tied_pair": {
            "reference": float(FAIR_PAIR.reference[0, 0] / FAIR_PAIR.reference[0, 1]),
            "dpo": _tied_ratio(0.1),
            "target": float(FAIR_PAIR.target[0, 0] / FAIR_PAIR.target[0, 1]),
        },
    }
    fits = max(worst.values()) < 1e-6 and min(cost.values()) == cost["0"] == 0
    example = {"preference": 0.5, "margin": 0.0, "implied_preference": float(expit(np.zeros(1))[0])}
    return judged(not fits, evidence, example)


def _tied_ratio(beta: float) -> float:
    """π(0)/π(1) of DPO on the tied pair at n = ∞."""
    margin = population_margins(FAIR_PAIR, beta)[0, 0, 1]
    return float(np.exp(margin / beta) * FAIR_PAIR.reference[0, 0] / FAIR_PAIR.reference[0, 1])


def separated_margin(time: float, beta: float) -> float:
    """DPO's implicit margin u after gradient flow on one pair labelled one way, from π_ref: eᵘ + u = 2β²t + 1.

    From du/dt = 2β² σ(−u), since the pair's two logits move apart at β σ(−u) each. Source: ours.
    """
    return float(np.log(wrightomega(2 * beta**2 * time + 1)))


def time_to_ratio(ratio: float, beta: float) -> float:
    """The time at which gradient flow reaches π(y_l)/π(y_w) = ``ratio`` from equal probabilities."""
    u = -beta * math.log(ratio)
    return (math.expm1(u) + u) / (2 * beta**2)


@claim(
    "drdo-lemma-1b",
    statement="Lemma 1b",
    says="Where DPO's estimate of a preference is 1, π(y_l)/π(y_w) goes to 0, whatever β is.",
    assumes="all labels of the pair agree.",
    predicts="no finite minimiser for any β; under training the implicit margin grows without bound.",
    tested=(
        "structure of the loss and of the data; gradient flow on the logits of one pair beside an unseen response "
        "to t = 1e12 (implicit integration with the exact Hessian) against its closed form"
    ),
    expects="holds",
)
def unanimous_pair_diverges() -> Finding:
    """The loser drains for every β, its log-ratio like (1/β) log t."""
    dpo, times = objectives.get("dpo"), (1e4, 1e8, 1e12)
    paths = {beta: _pair_margins(beta, times) for beta in BETAS}
    drained = {f"{beta:g}": vanishing(dpo, task_of([(0, 1, 1)], 3), beta=beta) for beta in BETAS}
    away = max(abs(u - separated_margin(t, b)) for b, path in paths.items() for t, u in zip(times, path, strict=True))
    growth = {f"{b:g}": float((path[-1] - path[-2]) / np.log(times[-1] / times[-2])) for b, path in paths.items()}
    evidence = {
        "probability_to_zero_by_beta": drained,
        "implicit_margin_at_1e4_1e8_1e12": {f"{b:g}": list(path) for b, path in paths.items()},
        "largest_error_against_closed_form": error(away, 1e-5),
        "slope_of_margin_in_log_time": growth,
        "time_to_ratio_1e-3": {f"{b:g}": time_to_ratio(1e-3, b) for b in BETAS},
    }
    grows = all(path[0] < path[1] < path[2] for path in paths.values())
    return judged(all(gone == [1] for gone in drained.values()) and grows and away < 1e-5, evidence)


@cache
def _pair_margins(beta: float, times: tuple[float, ...]) -> tuple[float, ...]:
    logp = gradient_flow(objectives.get("dpo"), task_of([(0, 1, 1)], 3), times, beta=beta)
    return tuple(float(u) for u in beta * (logp[:, 0] - logp[:, 1]))

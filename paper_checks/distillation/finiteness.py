"""Where DPO, IPO, distilled and pessimistic DPO have a finite minimiser: every way to label the pairs of four responses."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from paper_checks.claims import Finding, Verdict, claim
from paper_checks.distillation import tables
from paper_checks.distillation.notes import BETAS
from theory.instances.tabular import Array
from theory.sampling import WinCounts
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World

# Margins that differ by less are the same up to the solver's tolerance.
EQUAL = 1e-6
# The largest max-norm of a gradient at what is called a minimiser (the solver's own rule).
CERTIFIED = 1e-8


@claim(
    "distillation-dpo-overfits",
    statement="Overfitting of DPO after Azar et al. (as drdo A.2 and A.4 cite it: 000, lines 219 and 250)",
    says="With labels that agree, the implicit reward that DPO fits grows without bound whatever β, while IPO's stays finite.",
    assumes="an unrestricted policy, no ridge, no early stopping.",
    predicts="DPO has no finite minimiser exactly where some group of responses is only ever beaten from outside (Ford 1957); "
    "IPO's log-ratios stay within (V − 1)/(2τ).",
    tested="every one of the 4096 ways to label the pairs of 4 responses; existence by structure, and by how far a fit "
    "moves when a ridge is divided by 1000",
    expects="holds",
)
def dpo_overfits_and_ipo_does_not() -> Finding:
    """Existence of both minimisers on all label patterns of four responses."""
    vocab, tau = 4, 0.1
    data = tables.label_patterns(vocab)
    log_ref = tables.random_policy(0, 1, vocab)
    task = tables.task_on(data, log_ref)
    infinite = {beta: tables.vanishing(task, "dpo", beta=beta).any((1, 2)) for beta in BETAS}
    same = all(bool((mask == infinite[BETAS[0]]).all()) for mask in infinite.values())
    moved = _spread(data, log_ref, 1e-6) - _spread(data, log_ref, 1e-3)
    agrees = bool(((moved > 1) == infinite[BETAS[0]]).all())
    ipo = tables.minimise(task, "ipo", tau=tau).fits[0]
    ratio = ipo.logp - task.log_ref
    widest = float((ratio.amax(-1) - ratio.amin(-1)).max())
    bounded = widest <= (vocab - 1) / (2 * tau) + 1e-6 and float(ipo.gradient_norm.max()) <= CERTIFIED
    holds = same and agrees and bounded
    evidence = {
        "patterns": task.seeds,
        "dpo_without_finite_minimiser": int(infinite[BETAS[0]].sum()),
        "the_same_for_every_beta": same,
        "structure_agrees_with_ridge_1e-3_to_1e-6": agrees,
        "least_growth_where_infinite": float(moved[infinite[BETAS[0]]].min()),
        "largest_growth_where_finite": float(moved[~infinite[BETAS[0]]].max()),
        "ipo_widest_log_ratio": widest,
        "ipo_bound": (vocab - 1) / (2 * tau),
        "ipo_tau": tau,
    }
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else evidence)


def _spread(data: WinCounts, log_ref: Tensor, ridge: float) -> Array:
    """The widest implicit reward that DPO fits under a ridge, nats, shape (S,)."""
    reward = TableTask(data, World(log_ref, 1.0), Options(ridge=ridge)).reward_fit.reward[:, 0]
    return (reward.amax(-1) - reward.amin(-1)).numpy()


@claim(
    "distillation-d-dpo-finite",
    statement="Distillation does not degenerate (restored)",
    says="With a finite reward the distilled policy stays finite on any data, also where DPO has no finite minimiser.",
    assumes="a reward that is finite everywhere.",
    predicts="least squares reaches β·Δlog(π/π_ref) = Δr on every compared pair.",
    tested="every one of the 4096 ways to label the pairs of 4 responses, β over the notes' sweep",
    expects="holds",
)
def distilled_policy_is_finite() -> Finding:
    """Residual margins on all label patterns; and what becomes of it when the reward itself is learned without a ridge."""
    data = tables.label_patterns(4)
    log_ref, reward = tables.random_policy(0, 1, 4), tables.random_reward(0, 1, 4)
    task = tables.task_on(data, log_ref, reward)
    residuals, norms = zip(*(_residual(task, reward, beta) for beta in BETAS), strict=True)
    infinite = max(int(tables.vanishing(task, "d-dpo", beta=beta).any((1, 2)).sum()) for beta in BETAS)
    learned = tables.task_on(data, log_ref)
    fits = max(residuals) < EQUAL and max(norms) <= CERTIFIED
    holds = fits and infinite == 0
    evidence = {
        "patterns": task.seeds,
        "without_finite_minimiser": infinite,
        "margins_equal_the_reward's_within": EQUAL,
        "all_equal_and_certified": fits,
        "dpo_without_finite_minimiser": int(tables.vanishing(learned, "dpo", beta=0.1).any((1, 2)).sum()),
        "d_dpo_without_finite_minimiser_if_the_reward_is_fitted_to_the_same_labels_without_a_ridge": int(
            tables.vanishing(learned, "d-dpo", beta=0.1).any((1, 2)).sum()
        ),
    }
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else evidence)


def _residual(task: TableTask, reward: Tensor, beta: float) -> tuple[float, float]:
    """max |β Δlog(π/π_ref) − Δr| over the compared pairs, and the gradient's max-norm."""
    fit = tables.minimise(task, "d-dpo", beta=beta).fits[0]
    gap = beta * (fit.logp - task.log_ref) - reward
    margins = (gap.unsqueeze(-1) - gap.unsqueeze(-2)).abs()
    return float((margins * torch.from_numpy(task.data.wins > 0)).max()), float(fit.gradient_norm.max())


@claim(
    "distillation-p-dpo-finite",
    statement="Pessimistic DPO (restored)",
    says="Adding λ·KL(π_ref‖π) to DPO (p-DPO) keeps every probability away from 0, on separable data too, for every β.",
    assumes="λ > 0 and π_ref > 0 everywhere.",
    predicts="log π(y) ≥ −(log 2/λ + H(π_ref))/π_ref(y): the objective is at most log 2 at π_ref, its loss at least 0.",
    tested="that bound, and certified minimisers on all 4096 label patterns of 4 responses, and on disjoint one-way pairs",
    expects="holds",
)
def pessimism_keeps_dpo_finite() -> Finding:
    """The bound on all label patterns, and the masses on disjoint pairs as λ → 0."""
    data, log_ref = tables.label_patterns(4), tables.random_policy(0, 1, 4)
    task = tables.task_on(data, log_ref)
    settings = [(0.01, 1e-2), (0.1, 1e-4), (1.0, 1e-4), (100.0, 1e-2)]
    certified, least, slack = zip(*(_within_bound(task, beta, weight) for beta, weight in settings), strict=True)
    infinite = max(int(tables.vanishing(task, "p-dpo", beta=b, lambda_=w).any((1, 2)).sum()) for b, w in settings)
    pairs = [_disjoint(beta, weight) for beta in (0.1, 1.0, 10.0) for weight in (1e-1, 1e-2, 1e-4)]
    holds = all(certified) and min(slack) >= 0 and infinite == 0 and all(row["every_pair_keeps_its_mass"] for row in pairs)
    evidence = {
        "patterns": task.seeds,
        "beta_and_lambda": settings,
        "without_finite_minimiser": infinite,
        "least_log_probability": list(least),
        "least_slack_of_the_bound_nats": list(slack),
        "disjoint_pairs": pairs,
        "reading": "on disjoint pairs every pair keeps its mass under π_ref, and so does each unseen response, for every λ > 0: "
        "as λ → 0 a pair's mass moves to its winner, so that of DPO's many minimisers this is the one reached",
    }
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else evidence)


def lower_bound(log_ref: Tensor, weight: float) -> Tensor:
    """A bound from below on log π of any minimiser of p-DPO with λ = ``weight``, whatever the data and β; shape of ``log_ref``.

    L(π̂) ≤ L(π_ref) = log 2 and the pair loss is positive, so that −H(π_ref) − π_ref(y) log π̂(y)
    ≤ KL(π_ref‖π̂) ≤ log 2/λ.
    """
    reference = log_ref.exp()
    entropy = -(reference * log_ref).sum(-1, keepdim=True)
    return -(math.log(2) / weight + entropy) / reference


def _within_bound(task: TableTask, beta: float, weight: float) -> tuple[bool, float, float]:
    """Whether all minimisers are certified; the least log-probability and the least distance to the bound, nats."""
    fit = tables.minimise(task, "p-dpo", beta=beta, lambda_=weight).fits[0]
    slack = (fit.logp - lower_bound(task.log_ref, weight)).min()
    return float(fit.gradient_norm.max()) <= CERTIFIED, float(fit.logp.min()), float(slack)


def _disjoint(beta: float, weight: float) -> dict[str, float | bool]:
    """The masses on two disjoint pairs and one unseen response, and whether pairs and unseen keep what π_ref gives them."""
    pairs, unseen = 2, 1
    role = tables.roles(pairs, unseen)
    log_ref = tables.random_policy(1, 1, len(role))
    fit = tables.minimise(tables.task_on(tables.disjoint_pairs(pairs, unseen), log_ref), "p-dpo", beta=beta, lambda_=weight)
    change = (fit.fits[0].logp[0, 0].exp() - log_ref[0].exp()).numpy()
    by_pair = np.append(change[0 : 2 * pairs : 2] + change[1 : 2 * pairs : 2], change[2 * pairs :])
    found = tables.masses(fit.fits[0].logp[0, 0], role)
    return {"beta": beta, "lambda": weight, **found, "every_pair_keeps_its_mass": bool(np.abs(by_pair).max() < 1e-7)}

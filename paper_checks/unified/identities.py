"""Identities between objectives: each symbolically, and through the package's own objectives on random numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from paper_checks.claims import Finding, Verdict, claim
from paper_checks.unified.tasks import by_newton, gap, task_of
from theory import objectives
from theory.instances import random_instance
from theory.objectives import Pair
from theory.objectives.rkl import rlhf_reward
from theory.solvers.closed import closed_form
from theory.statistics import divergences

# Agreement of two exact computations in float64, and of two minimisers that Newton's method found.
ROUNDING, SOLVED = 1e-12, 1e-8


def decide(proved: dict[str, bool], measured: dict[str, float], tolerance: float, **more: Any) -> Finding:
    """``holds`` if every proof is true and every measured difference is within ``tolerance``."""
    evidence = {"symbolic": proved, "largest_differences": measured, "tolerance": tolerance, **more}
    holds = all(proved.values()) and max(measured.values()) <= tolerance
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else measured)


def random_table(seed: int, *shape: int) -> Tensor:
    """Normal numbers in float64, always the same for a seed."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def log_policy(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Random log-probabilities along the last axis."""
    return torch.log_softmax(scale * random_table(seed, *shape), -1)


def zero(*expressions: Any) -> bool:
    """Whether every expression is identically zero."""
    return all(sp.simplify(sp.expand_log(sp.expand(e), force=True)) == 0 for e in expressions)


def all_pairs(log_pi: Tensor, log_ref: Tensor, reward: Tensor) -> Pair:
    """The pair of every winner (axis −2) with every loser (axis −1) of tables (…, V)."""
    tables = {"logp": log_pi, "ref_logp": log_ref, "reward": reward, "student_reward": reward}
    sides = {f"{name}_chosen": t.unsqueeze(-1) for name, t in tables.items()}
    return Pair(**sides, **{f"{name}_rejected": t.unsqueeze(-2) for name, t in tables.items()})


def mean_under(log_pi: Tensor, values: Tensor) -> Tensor:
    """E_{y~π}[values], shape (…,)."""
    return (log_pi.exp() * values).sum(-1)


def objective_value(name: str, log_pi: Tensor, log_ref: Tensor, reward: Tensor, gamma: float, **hyper: float) -> Tensor:
    """The value of an objective without a pair loss, from the coefficients it states; shape (…,)."""
    terms = objectives.get(name).coefficients(gamma=gamma, **hyper)
    kl = divergences.kl(log_pi, log_ref)
    return -terms.reward * mean_under(log_pi, reward) + terms.entropy * mean_under(log_pi, log_pi) + terms.kl * kl


@claim(
    "unified-schulman",
    statement="C.2, Schulman's trick",
    says="KL(p‖q) = E_p[eᵗ − 1 − t] with t = log q/p.",
    assumes="q has no mass where p has none (true under Assumption 2, which bounds every log π).",
    predicts="Σ p(q/p − 1 − log q/p) − Σ p log p/q = Σq − Σp = 0.",
    tested="symbolically on four responses; in float64 on 1,000 random pairs; the mass assumption by a numerical example",
    expects="holds",
)
def schulman() -> Finding:
    """The identity, and what is left of it when q leaves p's support."""
    p, q = sp.symbols("p1:5", positive=True), sp.symbols("q1:5", positive=True)
    difference = sum(a * (b / a - 1 - sp.log(b / a)) - a * sp.log(a / b) for a, b in zip(p, q, strict=True))
    log_p, log_q = log_policy(0, 1000, 6), log_policy(1, 1000, 6, scale=3.0)
    plain = (log_p.exp() * (log_p - log_q)).sum(-1)
    t = log_q - log_p
    measured = {"float64": float((mean_under(log_p, t.exp() - 1 - t) - plain).abs().max())}
    outside = {"p": [0.5, 0.5, 0.0], "q": [0.4, 0.4, 0.2], "KL": math.log(1.25), "E_p[e^t − 1 − t]": 0.8 - 1 + math.log(1.25)}
    return decide({"difference": zero(difference - (sum(q) - sum(p)))}, measured, ROUNDING, when_q_leaves_the_support=outside)


@claim(
    "unified-forward-kl-joint",
    statement="§3, after Theorem 4 (003, line 64)",
    says="The averaged forward KL, E_x KL(π*(·|x)‖π̂(·|x)), is the KL divergence of the joint distributions of (x, y).",
    assumes="Both joints share the prompt distribution ρ.",
    predicts="log of ρπ*/(ρπ̂) does not depend on ρ.",
    tested="symbolically for one (x, y); on 200 random tables with random ρ through the package's divergence",
    expects="holds",
)
def joint_divergence() -> Finding:
    """ρ cancels in the log-ratio."""
    rho, p, q = sp.symbols("rho p q", positive=True)
    term = rho * p * sp.log(rho * p / (rho * q)) - rho * (p * sp.log(p / q))
    log_p, log_q, log_rho = log_policy(0, 200, 5, 4), log_policy(1, 200, 5, 4), log_policy(2, 200, 5)
    joint = divergences.kl((log_p + log_rho[..., None]).flatten(1), (log_q + log_rho[..., None]).flatten(1))
    averaged = divergences.forward_kl(log_p, log_q, log_rho.exp())
    return decide({"one_term": zero(term)}, {"float64": float((joint - averaged).abs().max())}, ROUNDING)


@claim(
    "unified-reward-constant",
    statement="§4 (8) and §5 (003, lines 70 and 101)",
    says="Rewards count only up to a constant per prompt: the normaliser drops out of the reward loss, the policy and RKL.",
    assumes="nothing beyond the definitions.",
    predicts="r + c(x) leaves −log σ(Δr), exp(r/γ)/Z and the minimisers of RLHF and RKL as they are; RKL's value moves by −c/γ.",
    tested="through the package's objectives on random tables (V = 6, X = 4), with c(x) up to about ±20",
    expects="holds",
)
def constants_drop_out() -> Finding:
    """Shift the rewards of each context and look for a difference."""
    reward, log_ref, log_pi = random_table(0, 1, 4, 6), log_policy(1, 1, 4, 6), log_policy(2, 1, 4, 6)
    shift, gamma = 10 * random_table(3, 1, 4, 1), 0.7
    shifted = reward + shift
    pairs = [objectives.get("reward").terms(all_pairs(log_pi, log_ref, r)).loss for r in (reward, shifted)]
    assert pairs[0] is not None
    assert pairs[1] is not None
    measured = {
        "pair_loss": float((pairs[0] - pairs[1]).abs().max()),
        "policy": gap(torch.log_softmax(reward / gamma, -1), torch.log_softmax(shifted / gamma, -1)),
    }
    for name, values in (("rlhf", {"beta": 0.3}), ("rkl", {"alpha": 1.0, "beta": 0.3})):
        hyper = {k: torch.tensor([v], dtype=torch.float64) for k, v in values.items()}
        found = [closed_form(objectives.get(name), gamma, hyper, log_ref, r, None) for r in (reward, shifted)]
        measured[f"{name}_minimiser"] = gap(*found)
    before, after = (objective_value("rkl", log_pi, log_ref, r, gamma, alpha=1.0, beta=0.3) for r in (reward, shifted))
    measured["rkl_value_plus_c/γ"] = float((after - before + shift[..., 0] / gamma).abs().max())
    return decide({}, measured, ROUNDING * 100)


@claim(
    "unified-eq-8-9",
    statement="(8)–(9)",
    says="Learning a reward by Bradley–Terry likelihood is PMLE without its KL term, through π ∝ exp(r/γ).",
    assumes="(8), with the policies that the reward class induces.",
    predicts="Equal losses on every pair, and on every data set the same minimiser once the reward is read as a policy.",
    tested="losses on random tables for four γ; both minimised by Newton's method on 20 data sets of 20,000 comparisons",
    expects="holds",
)
def reward_likelihood_is_pmle() -> Finding:
    """The same likelihood in other coordinates."""
    reward, log_ref = random_table(0, 4, 6), log_policy(1, 4, 6)
    r_w, r_l, gamma = sp.symbols("r_w r_l gamma", positive=True)
    symbolic = {"γΔlogπ = Δr": zero(gamma * (r_w / gamma - r_l / gamma) - (r_w - r_l))}
    measured = {}
    for g in (0.1, 0.5, 1.0, 3.0):
        pair = all_pairs(torch.log_softmax(reward / g, -1), log_ref, reward)
        losses = [objectives.get(name).terms(pair, gamma=g).loss for name in ("reward", "pmle")]
        measured[f"loss_at_gamma={g:g}"] = float((losses[0] - losses[1]).abs().max())  # type: ignore[operator]
    task = task_of(random_instance(0, vocab=5, contexts=3, gamma=0.8), 20_000, replicates=20, ridge=0.01)
    measured["minimiser"] = gap(task.reward_fit.logp, by_newton(task, "pmle", beta=0.0))
    return decide(symbolic, measured, SOLVED, instance="seed 0, V = 5, X = 3, γ = 0.8")


@claim(
    "unified-eq-11",
    statement="(11)",
    says="The log-loss against the synthetic preference is the KL of two Bernoulli laws up to a constant: the expected PMLE.",
    assumes="s = σ(Δr̂) from a fixed reward model.",
    predicts="loss − KL(s‖p) is the entropy of s, free of the policy; PMLE averaged over a label drawn with P = s is the loss.",
    tested="symbolically; on all pairs of random tables; minimiser on 20 data sets is exp(r̂/γ)/Z",
    expects="holds",
)
def distillation_is_expected_pmle() -> Finding:
    """Rao–Blackwellised PMLE."""
    s, p = sp.symbols("s p", positive=True)
    loss = -s * sp.log(p) - (1 - s) * sp.log(1 - p)
    bernoulli = s * sp.log(s / p) + (1 - s) * (sp.log(1 - s) - sp.log(1 - p))
    symbolic = {
        "loss_minus_KL_is_free_of_p": zero(sp.diff(loss - bernoulli, p)),
        "and_is_the_entropy": zero(loss - bernoulli + s * sp.log(s) + (1 - s) * sp.log(1 - s)),
    }
    gamma = 0.7
    pair = all_pairs(log_policy(0, 4, 6), log_policy(1, 4, 6), random_table(2, 4, 6))
    chance = torch.sigmoid(pair.reward_margin)
    pmle = objectives.get("pmle")
    won, lost = pmle.terms(pair, gamma=gamma).loss, pmle.terms(pair.swapped(), gamma=gamma).loss
    distilled = objectives.get("pref-distill").terms(pair, gamma=gamma).loss
    assert won is not None
    assert lost is not None
    assert distilled is not None
    task = task_of(random_instance(0, vocab=5, contexts=3, gamma=gamma), 20_000, replicates=20)
    reward = task.reward_fit.reward
    measured = {
        "expected_PMLE": float((distilled - chance * won - (1 - chance) * lost).abs().max()),
        "minimiser": gap(by_newton(task, "pref-distill", reward, beta=0.0), torch.log_softmax(reward / gamma, -1)),
    }
    noise = float((chance * (1 - chance)).mean()) * gamma**2
    return decide(symbolic, measured, SOLVED, label_noise_removed="γ²·E[s(1−s)] per pair in ∂loss/∂Δlogπ", its_size=noise)


@claim(
    "unified-eq-10-rebel",
    statement="(10)",
    says="REBEL matches relative rewards, so its minimiser is RLHF's at β = 1/η; without π_ref and with 1/γ it is exp(r̂/γ).",
    assumes="All policies, every pair with positive weight.",
    predicts="π_ref·exp(ηr̂)/Z for (10); π ∝ exp(r̂/γ) when π_ref is dropped and 1/η becomes γ.",
    tested="Newton's method on 20 data sets of 20,000 comparisons against the closed forms; dropping π_ref = a uniform one",
    expects="holds",
)
def rebel_minimiser() -> Finding:
    """REBEL's two minimisers."""
    instance = random_instance(0, vocab=5, contexts=3, gamma=0.8)
    task = task_of(instance, 20_000, replicates=20)
    reward, eta = task.reward_fit.reward, 0.6
    beta = {"beta": torch.full((20,), 1 / eta, dtype=torch.float64)}
    optimum = closed_form(objectives.get("rlhf"), instance.gamma, beta, task.log_ref, reward, None)
    flat = np.full_like(instance.reference, 1 / instance.vocab)
    uniform = task_of(type(instance)(instance.target, flat, instance.reference, gamma=instance.gamma), 20_000, replicates=20)
    free = uniform.reward_fit.reward
    measured = {
        "RLHF_at_beta=1/eta": gap(by_newton(task, "rebel", reward, eta=eta), optimum),
        "without_pi_ref": gap(
            by_newton(uniform, "rebel", free, eta=1 / instance.gamma), torch.log_softmax(free / instance.gamma, -1)
        ),
    }
    return decide({}, measured, SOLVED, instance="seed 0, V = 5, X = 3, γ = 0.8", eta=eta)


@claim(
    "unified-eq-15-rlhf",
    statement="§5, Relation to RLHF",
    says="RKL generalises RLHF: with α = 0 it is the RLHF objective.",
    assumes="(15) with reward r̂/γ (restored).",
    predicts="γ·RKL(α = 0, β) = RLHF(βγ): the same objective up to the factor γ. [ours] RKL(α, β, r̂) = RLHF(α + β) with "
    "reward r̂/γ − α log π_ref, exactly.",
    tested="per response symbolically, hence for any V; values and minimisers through the package's objectives on random tables",
    expects="holds",
)
def rkl_and_rlhf() -> Finding:
    """Both directions of the relation."""
    p, q, gamma, alpha, beta = sp.symbols("p q gamma alpha beta", positive=True)
    r = sp.Symbol("r", real=True)

    def rlhf(reward: Any, weight: Any) -> Any:
        return p * (-reward + weight * (sp.log(p) - sp.log(q)))

    def rkl(weight: Any) -> Any:
        return p * (-r / gamma + weight * sp.log(p) + beta * (sp.log(p) - sp.log(q)))

    symbolic = {
        "alpha=0": zero(gamma * rkl(0) - rlhf(r, beta * gamma)),
        "as_RLHF": zero(rkl(alpha) - rlhf(r / gamma - alpha * sp.log(q), alpha + beta)),
    }
    log_pi, log_ref, reward = log_policy(0, 50, 6), log_policy(1, 50, 6), random_table(2, 50, 6)
    g, a, b = 0.7, 0.4, 0.3
    measured = {
        "alpha=0_value": float(
            (
                g * objective_value("rkl", log_pi, log_ref, reward, g, alpha=0.0, beta=b)
                - objective_value("rlhf", log_pi, log_ref, reward, g, beta=b * g)
            )
            .abs()
            .max()
        ),
        "as_RLHF_value": float(
            (
                objective_value("rkl", log_pi, log_ref, reward, g, alpha=a, beta=b)
                - objective_value("rlhf", log_pi, log_ref, rlhf_reward(reward, log_ref, gamma=g, alpha=a), g, beta=a + b)
            )
            .abs()
            .max()
        ),
    }
    return decide(symbolic, measured, ROUNDING)


@claim(
    "unified-app-b-closed-form",
    statement="Appendix B, prior smoothing",
    says="RKL is a KL to a smoothed prior: its solution is π ∝ π_ref^{β/(α+β)}·exp(r/((α+β)γ)).",
    assumes="α, β ≥ 0, α + β > 0, all policies.",
    predicts="The objective equals (α + β)·KL(π‖that policy) up to a constant of the context.",
    tested="per response symbolically, hence for any V; Newton's method on a 3 × 3 grid of (α, β) against the closed form",
    expects="holds",
)
def smoothed_prior() -> Finding:
    """The rearrangement, and the minimiser found without it."""
    p, q, gamma, alpha, beta = sp.symbols("p q gamma alpha beta", positive=True)
    r = sp.Symbol("r", real=True)
    objective = -r / gamma + alpha * sp.log(p) + beta * (sp.log(p) - sp.log(q))
    rearranged = (alpha + beta) * (sp.log(p) - beta / (alpha + beta) * sp.log(q) - r / ((alpha + beta) * gamma))
    instance = random_instance(0, vocab=5, contexts=3, gamma=0.8)
    task = task_of(instance, 5_000, replicates=4, ridge=0.01)
    reward = task.reward_fit.reward
    measured = {}
    for a in (0.1, 1.0, 3.0):
        for b in (0.0, 0.05, 2.0):
            stated = torch.log_softmax((b * task.log_ref + reward / instance.gamma) / (a + b), -1)
            measured[f"alpha={a:g}, beta={b:g}"] = gap(by_newton(task, "rkl", reward, alpha=a, beta=b), stated)
    return decide({"one_response": zero(objective - rearranged)}, measured, SOLVED)

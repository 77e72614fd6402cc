"""The dilemma of RLHF, Figure 1, and what the entropy term of RKL changes (§5 and Appendix B)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paper_checks.claims import Finding, Verdict, claim
from paper_checks.unified.tasks import distance, task_of
from theory import objectives
from theory.instances import Instance, random_instance
from theory.instances.tabular import Array
from theory.simulation import Settings, draw_data, floor, make_task, solve
from theory.solvers.closed import closed_form
from theory.solvers.options import Options
from theory.statistics.rates import mean, slope

TOY = "V = X = 10, γ = 1, reference noise 0.5: our defaults, the paper's values are lost"


def fitted(method: str, instance: Instance, n: float, *, replicates: int = 1, **values: float) -> Array:
    """Forward KL of ``method`` at fixed hyperparameters, shape (S,)."""
    settings = Settings(objectives.get(method), values, "fixed")
    return solve(instance, make_task(instance, draw_data(instance, n, 0, range(replicates)), settings), settings).forward_kl


def rlhf_policy(instance: Instance, reward: Tensor, beta: float) -> Tensor:
    """log π of RLHF at β for rewards (S, X, V)."""
    log_ref = torch.from_numpy(np.log(instance.reference)).expand_as(reward)
    hyper = {"beta": torch.full((len(reward),), beta, dtype=torch.float64)}
    return closed_form(objectives.get("rlhf"), instance.gamma, hyper, log_ref, reward, None)


def with_reference(instance: Instance, reference: Array) -> Instance:
    """The same target with another reference, normalised; data come from the old one."""
    return Instance(
        instance.target,
        reference / reference.sum(1, keepdims=True),
        instance.data_policy,
        instance.context_weights,
        instance.gamma,
    )


def tempered_reference(instance: Instance, power: float) -> Instance:
    """The instance with π_ref ∝ (π*)^power: 0 is uniform, and RLHF at β = γ/(1 − power) is exact below 1."""
    return with_reference(instance, instance.target**power)


@claim(
    "unified-dilemma-underfitting",
    statement="§5, The dilemma of RLHF, 1",
    says="With β fixed for all n, RLHF learns a proper model that cannot be far from the reference: it underfits.",
    assumes="Full coverage of the responses.",
    predicts="|log π/π_ref| ≤ (max r̂ − min r̂)/β, and the forward KL stops at a positive floor.",
    tested="the bound on 5 instances × 4 β; floors at n = ∞; one instance simulated to n = 1e7, 10 data sets, 95% interval",
    expects="holds-if",
)
def fixed_beta_underfits() -> Finding:
    """Distance to the reference, floors, and the references for which a fixed β is exact."""
    betas, instances = (0.1, 0.5, 1.0, 5.0), [random_instance(s) for s in range(5)]
    spans, floors = [], {}
    for instance in instances:
        reward = torch.from_numpy(instance.reward())[None]
        span = reward.amax(-1) - reward.amin(-1)
        for beta in betas:
            moved = (rlhf_policy(instance, reward, beta) - torch.from_numpy(np.log(instance.reference))).abs().amax(-1)
            spans.append(float((moved * beta / span).max()))
    for beta in betas:
        at = [float(fitted("rlhf", i, np.inf, beta=beta)[0]) for i in instances]
        floors[f"beta={beta:g}"] = [min(at), max(at)]
    simulated = {f"n={n:g}": _interval(fitted("rlhf", instances[0], n, replicates=10, beta=1.0)) for n in (1e3, 1e5, 1e7)}
    # The exceptions: π_ref ∝ (π*)^{1 − γ/β}, of which the uniform reference with β = γ is one.
    exact = {
        "uniform π_ref, beta=γ=1": float(fitted("rlhf", tempered_reference(instances[0], 0.0), np.inf, beta=1.0)[0]),
        "π_ref ∝ √π*, beta=2γ": float(fitted("rlhf", tempered_reference(instances[0], 0.5), np.inf, beta=2.0)[0]),
    }
    evidence = {
        "|log π/π_ref|·β/span, largest": max(spans),
        "forward_kl_at_n=inf [least, largest over seeds 0–4]": floors,
        "simulated_seed_0_beta=1 [mean, low, high]": simulated,
        "toy": TOY,
    }
    underfits = max(spans) <= 1 + 1e-9 and min(low for low, _ in floors.values()) > 1e-3
    if not underfits:
        return Finding(Verdict.FAILS, evidence, counterexample=floors)
    if min(exact.values()) < 1e-12:
        return Finding(Verdict.HOLDS_IF, evidence, "π_ref is not proportional to (π*)^{1 − γ/β}", {"forward_kl_at_n=inf": exact})
    return Finding(Verdict.HOLDS, {**evidence, "exceptions_tried": exact})


def _interval(values: Array) -> list[float]:
    found = mean(values)
    return [found.value, found.low, found.high]


@claim(
    "unified-dilemma-degenerate",
    statement="§5, The dilemma of RLHF, 2",
    says="With β → 0 RLHF collapses to a degenerate solution.",
    assumes="The learned rewards of a prompt are not all equal.",
    predicts="All mass on argmax r̂: entropy → 0 and the forward KL grows like E_π*[max r̂ − r̂]/β.",
    tested="the closed form with rewards learned from n = 10,000 on 5 instances, β = 1…1e-4; ties by one constructed reward",
    expects="holds",
)
def vanishing_beta_collapses() -> Finding:
    """Entropy and forward KL along β → 0."""
    betas = (1.0, 0.1, 0.01, 1e-3, 1e-4)
    entropy, divergence, scaled = np.zeros((3, 5, len(betas)))
    for seed in range(5):
        instance = random_instance(seed)
        reward = task_of(instance, 10_000, ridge=0.01).reward_fit.reward
        lack = float(((reward.amax(-1, keepdim=True) - reward).numpy()[0] * instance.target).sum(1).mean())
        for k, beta in enumerate(betas):
            log_pi = rlhf_policy(instance, reward, beta)
            entropy[seed, k] = -float((log_pi.exp() * log_pi).sum(-1).mean())
            divergence[seed, k] = float(distance(instance, log_pi)[0])
            scaled[seed, k] = divergence[seed, k] * beta / lack
    tied = rlhf_policy(random_instance(0, vocab=3, contexts=1), torch.tensor([[[1.0, 1.0, 0.0]]], dtype=torch.float64), 1e-4)
    names = [f"beta={b:g}" for b in betas]
    evidence = {
        "entropy_in_nats, mean": dict(zip(names, entropy.mean(0).tolist(), strict=True)),
        "forward_kl, mean": dict(zip(names, divergence.mean(0).tolist(), strict=True)),
        "forward_kl·β/E[max r̂ − r̂], [least, largest] at beta=1e-4": [float(scaled[:, -1].min()), float(scaled[:, -1].max())],
        "with_two_best_responses_tied": {"policy": tied[0, 0].exp().tolist(), "remark": "degenerate still, on two responses"},
        "instances": f"seeds 0–4, {TOY}",
    }
    collapses = (
        entropy[:, -1].max() < 0.01 and bool((np.diff(divergence[:, 1:]) > 0).all()) and abs(scaled[:, -1] - 1).max() < 0.01
    )
    return Finding(Verdict.HOLDS if collapses else Verdict.FAILS, evidence, counterexample=None if collapses else evidence)


def least_error(instance: Instance) -> float:
    """min over β of the forward KL of RLHF at n = ∞, nats."""
    return floor(instance, Settings(objectives.get("rlhf"), options=Options(0.0)))


@claim(
    "unified-rlhf-inconsistent",
    statement="§1 and §5: no β rescues RLHF",
    says="Even with the best β at every sample size, RLHF does not converge to the target model.",
    assumes="n = ∞, full coverage; the reference is some other model.",
    predicts="min over β of KL(π*‖π_ref·(π*)^{γ/β}/Z) > 0.",
    tested="the minimum on 24 random instances (V = 2…20, three distances of π_ref) and on the references that are powers of π*",
    expects="holds-if",
)
def tuned_rlhf_is_inconsistent() -> Finding:
    """Floors of tuned RLHF, and exactly when there is none."""
    floors: dict[str, list[float]] = {}
    for vocab in (3, 5, 10, 20):
        for noise in (0.1, 0.5, 1.0):
            drawn = [random_instance(s, vocab=vocab, contexts=5, ref_noise=noise) for s in range(2)]
            floors[f"V={vocab}, noise={noise:g}"] = [least_error(i) for i in drawn]
    toy = random_instance(0)
    two = Instance(np.array([[0.8, 0.2]]), np.array([[0.6, 0.4]]))
    exceptions = {
        "uniform π_ref": least_error(tempered_reference(toy, 0.0)),
        "π_ref ∝ √π*": least_error(tempered_reference(toy, 0.5)),
        "π* = (0.8, 0.2), π_ref = (0.6, 0.4)": least_error(two),
    }
    sharper = {"π_ref ∝ (π*)^1.5 (would need a negative β)": least_error(tempered_reference(toy, 1.5))}
    least = min(min(found) for found in floors.values())
    evidence = {"floors_seeds_0_1": floors, "least": least, "sharper_reference": sharper, "gamma": 1.0}
    if least < 1e-6:
        return Finding(Verdict.FAILS, evidence, counterexample=floors)
    if max(exceptions.values()) < 1e-6:
        assumption = "π_ref is not proportional to (π*)^k with the same k < 1 in every context"
        return Finding(Verdict.HOLDS_IF, evidence, assumption, {"floor": exceptions})
    return Finding(Verdict.HOLDS, {**evidence, "exceptions_tried": exceptions})


def best_errors(method: str, instance: Instance, sizes: tuple[float, ...], replicates: int) -> Array:
    """Forward KL with the best β at each n, shape (sizes, S); α = 1 for RKL."""
    settings = Settings(objectives.get(method))
    tasks = (make_task(instance, draw_data(instance, n, 0, range(replicates)), settings) for n in sizes)
    return np.stack([solve(instance, task, settings).forward_kl for task in tasks])


@claim(
    "unified-fig-1",
    statement="Figure 1, §5 and Appendix D.1",
    says="With the best β at each sample size, RLHF saturates at a non-zero forward KL while RKL goes to zero.",
    assumes="(2); π* and π_ref from Gaussian logits; α fixed for RKL.",
    predicts="RLHF: flat at its floor. RKL: slope −1 in n, the rate of Theorem 7.",
    tested="n = 1e3…1e7, 10 data sets each, best of 61 β, refined; slope over n ≥ 1e5 with 99% interval; other sizes too",
    expects="holds",
)
def figure_one() -> Finding:
    """The toy experiment, and whether its picture hangs on the sizes that the text lost."""
    sizes, toy = (1e3, 1e4, 1e5, 1e6, 1e7), random_instance(0)
    curves = {m: best_errors(m, toy, sizes, 10) for m in ("rlhf", "rkl")}
    late = [slope(np.repeat(sizes[2:], 10), curves[m][2:].ravel(), confidence=0.99) for m in ("rlhf", "rkl")]
    bottom = least_error(toy)
    others = {}
    for vocab, noise in ((3, 0.5), (20, 0.5), (10, 0.1), (10, 1.0)):
        instance = random_instance(1, vocab=vocab, contexts=vocab, ref_noise=noise)
        ends = {m: best_errors(m, instance, (1e5, 1e7), 4).mean(1) for m in ("rlhf", "rkl")}
        others[f"V=X={vocab}, noise={noise:g}"] = {
            "rlhf/floor at 1e7": float(ends["rlhf"][1]) / least_error(instance),
            "rkl at 1e5/at 1e7": float(ends["rkl"][0] / ends["rkl"][1]),
        }
    picture = {f"n={n:g}": [float(curves[m][k].mean()) for m in ("rlhf", "rkl")] for k, n in enumerate(sizes)}
    evidence = {
        "forward_kl [rlhf, rkl]": picture,
        "floor_of_rlhf": bottom,
        "slope_from_n=1e5": {name: [s.value, s.low, s.high] for name, s in zip(("rlhf", "rkl"), late, strict=True)},
        "other_sizes": others,
        "instance": f"seed 0, {TOY}",
    }
    saturates = abs(curves["rlhf"][-1].mean() / bottom - 1) < 0.01 and bottom > 1e-3
    vanishes = late[1].low <= -1 <= late[1].high and curves["rkl"][-1].mean() < bottom / 100
    robust = all(abs(o["rlhf/floor at 1e7"] - 1) < 0.05 and o["rkl at 1e5/at 1e7"] > 30 for o in others.values())
    holds = bool(saturates and vanishes and robust)
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else evidence)


def policies(reference: Array, reward: Array, alpha: float, beta: float, rlhf_beta: float) -> tuple[Array, Array]:
    """(RKL at (α, β), RLHF at its own β) of one context, γ = 1, each of shape (V,)."""
    log_ref, table = (torch.from_numpy(np.asarray(a, dtype=np.float64))[None, None] for a in (np.log(reference), reward))

    def solved(name: str, **values: float) -> Array:
        hyper = {key: torch.tensor([v], dtype=torch.float64) for key, v in values.items()}
        return closed_form(objectives.get(name), 1.0, hyper, log_ref, table, None)[0, 0].exp().numpy()

    return solved("rkl", alpha=alpha, beta=beta), solved("rlhf", beta=rlhf_beta)


def follows_rarity(reference: Array, smoothed: Array, plain: Array) -> bool:
    """Whether smoothed/plain falls strictly as the reference probability rises: the rarer, the more."""
    order = np.argsort(reference)
    return bool((np.diff((np.log(smoothed) - np.log(plain))[order]) < 0).all())


def _agreement(rlhf_beta: Callable[[float, float], float], draws: int = 300) -> float:
    """Share of random problems (V = 6, α and β log-uniform in [0.05, 5]) in which RKL favours exactly the rarer responses."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(draws):
        reference, reward = rng.dirichlet(np.ones(6)), rng.standard_normal(6)
        alpha, beta = np.exp(rng.uniform(np.log(0.05), np.log(5.0), size=2))
        found += follows_rarity(reference, *policies(reference, reward, alpha, beta, rlhf_beta(alpha, beta)))
    return found / draws


@claim(
    "unified-app-b-prior-smoothing",
    statement="Appendix B, prior smoothing",
    says="Compared with RLHF, RKL's smoothed prior gives relatively more mass to actions of low initial probability.",
    assumes="α, β > 0, γ = 1.",
    predicts="π_RKL/π_RLHF falls as π_ref rises, whatever the reward.",
    tested="300 random problems with RLHF at the same total temperature α + β, and again at the same β; log-ratio by hand",
    expects="holds-if",
)
def smoothing_favours_rare_actions() -> Finding:
    """True at equal temperature; at equal β RKL is RLHF tempered, which may do the opposite."""
    shares = {"RLHF at α + β": _agreement(lambda a, b: a + b), "RLHF at β": _agreement(lambda a, b: b)}
    reference, reward = np.array([0.9, 0.1]), np.array([0.0, 3.0])
    smoothed, plain = policies(reference, reward, 1.0, 1.0, 1.0)
    powered = np.sqrt(plain) / np.sqrt(plain).sum()
    evidence = {
        "share_in_which_the_rarer_always_gain": shares,
        "the_prior_alone": "π_ref^{β/(α+β)} always favours the rarer: its exponent is below 1",
        "why": "at α + β: log π_RKL/π_RLHF = −α/(α+β)·log π_ref + const; at β: π_RKL ∝ π_RLHF^{β/(α+β)}, which smooths π_RLHF",
        "that_power_checked_to": float(np.abs(powered - smoothed).max()),
    }
    if shares["RLHF at α + β"] < 1:
        return Finding(Verdict.FAILS, evidence, counterexample=shares)
    if shares["RLHF at β"] == 1:
        return Finding(Verdict.HOLDS, evidence)
    counterexample = {
        **{"π_ref": reference.tolist(), "r": reward.tolist(), "alpha": 1.0, "beta": 1.0},
        **{"rlhf_at_beta=1": plain.tolist(), "rkl": smoothed.tolist()},
        "remark": "the rare action loses mass under RKL when RLHF is run at the same β",
    }
    assumption = "RLHF is run at the same total temperature, β' = α + β"
    return Finding(Verdict.HOLDS_IF, evidence, assumption, counterexample)


@claim(
    "unified-app-b-exploration",
    statement="Appendix B, prior smoothing",
    says="Because of the smoothed prior, RKL's policy is not too close to a degenerate distribution even if π_ref is.",
    assumes="α = 1, γ = 1, rewards of order 1.",
    predicts="As π_ref approaches a point mass, with mass ε elsewhere, the others keep a mass that does not vanish with ε.",
    tested="closed form for V = 5, ε = 1e-2…1e-30 and β from 0 to 1, at α = 1 and at the ratio of Table 5 (0.01 : 0.05)",
    expects="holds-if",
)
def smoothing_resists_degenerate_references() -> Finding:
    """The mass outside the reference's mode goes like ε^{β/(α+β)}."""
    reward, rest = np.array([0.0, 1.0, -1.0, 0.5, -0.5]), {}
    epsilons = (1e-2, 1e-6, 1e-12, 1e-30)
    cases: dict[str, tuple[float, float]] = {f"beta={b:g}": (1.0, b) for b in (0.0, 0.05, 1.0)}
    cases["Table 5's α : β = 0.01 : 0.05, at α + β = 1"] = (1 / 6, 5 / 6)
    for name, (alpha, beta) in cases.items():
        found = []
        for epsilon in epsilons:
            reference = np.array([1 - epsilon, *np.full(4, epsilon / 4)])
            found.append(float(policies(reference, reward, alpha, beta, 1.0)[0][1:].sum()))
        rest[name] = found
    exponents: dict[str, Any] = {name: beta / (alpha + beta) for name, (alpha, beta) in cases.items()}
    evidence = {"epsilon": list(epsilons), "mass_outside_the_mode": rest, "exponent β/(α+β)": exponents, "r": reward.tolist()}
    kept = [name for name, found in rest.items() if found[-1] > 0.1 * found[0]]
    lost = {name: found[-1] for name, found in rest.items() if name not in kept}
    if not lost:
        return Finding(Verdict.HOLDS, evidence)
    if not kept:
        return Finding(Verdict.FAILS, evidence, counterexample=lost)
    assumption = "β → 0 (as in the theorems), or β·log(1/ε) small beside α + β"
    return Finding(Verdict.HOLDS_IF, evidence, assumption, {"mass_outside_the_mode_at_epsilon=1e-30": lost})

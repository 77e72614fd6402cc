"""What the length-bias experiment is said to show, on its tabular twin (`lengthbias`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paper_checks.claims import Finding, Verdict, claim
from paper_checks.distillation.lengthbias import METHODS, Design, advantage_curves, draw_biased, make_world, task_of
from paper_checks.distillation.notes import BASE_RATE, RHOS
from theory.instances.tabular import Array
from theory.statistics import rates
from theory.statistics.rates import Interval

SMALL, LARGE = (0.2, 0.3, 0.4), (0.6, 0.7, 0.8)
# Worlds that were not looked at while the twin was designed.
SEEDS = range(100, 105)
# "Sizable", in standard deviations of the oracle's reward under π_SFT (ours).
SIZABLE = 0.1
TWIN = (
    "log-linear policies and rewards in length and 4 visible qualities (a quarter of the quality's variance is hidden), "
    "60 training prompts × 8 responses × 30 comparisons, 60 new prompts for validation, 60 for the test; labels by the "
    "oracle's larger reward; all sizes ours"
)


def table(rows: Sequence[dict[str, Any]], method: str, rhos: Sequence[float]) -> Array:
    """A method's advantage in standard deviations, shape (seeds, ρ)."""
    found = {(row["seed"], row["rho"]): row["advantage_sd"] for row in rows if row["method"] == method}
    seeds = sorted({seed for seed, _ in found})
    return np.array([[found[seed, rho] for rho in rhos] for seed in seeds])


def shown(interval: Interval) -> list[float]:
    """Estimate, low and high, without what rounding leaves of a zero."""
    return [round(float(number), 6) + 0.0 for number in (interval.value, interval.low, interval.high)]


@claim(
    "distillation-length-bias-harder",
    statement="Figure 2, as the notes report it (002, line 6)",
    says="Training sets in which the shorter response is mostly preferred (ρ < 0.5) are the harder setting, since the oracle "
    "prefers longer ones.",
    assumes="the oracle prefers the longer response in 61% of the comparisons; training sets of ρ ∈ {0.2, …, 0.8}.",
    predicts="a smaller advantage over π_SFT at ρ = 0.2, 0.3, 0.4 than at 0.6, 0.7, 0.8, for every method.",
    tested="the tabular twin, 5 worlds, the difference within a world with its 95% interval; e-dpo-length is e-DPO with reward "
    "models trained on subsets of D_ρ in which the longer response wins 20%, 50% and 80%",
    expects="holds",
    slow=True,
)
def few_longer_winners_are_harder() -> Finding:
    """Advantage at small ρ minus at large ρ, method by method, and the length that a reward model learns."""
    methods = tuple(name for name in METHODS if name != "e-dpo")
    rows = advantage_curves((*SMALL, *LARGE), methods, SEEDS)
    change = {m: rates.mean(table(rows, m, SMALL).mean(1) - table(rows, m, LARGE).mean(1)) for m in methods}
    harder = [m for m, interval in change.items() if interval.high < 0]
    easier = {m: interval for m, interval in change.items() if interval.low > 0}
    evidence = {
        "twin": TWIN,
        "seeds": [SEEDS[0], SEEDS[-1]],
        "advantage_small_minus_large_rho_sd": {m: shown(interval) for m, interval in change.items()},
        "learned_weight_of_length_over_quality": length_weights((0.2, BASE_RATE, 0.8)),
        "harder_for": harder,
    }
    if len(harder) == len(methods):
        return Finding(Verdict.HOLDS, evidence)
    against = {
        "advantage_small_minus_large_rho_sd": {m: shown(i) for m, i in easier.items()},
        "rho": [*SMALL, *LARGE],
        "advantage_sd": {m: table(rows, m, (*SMALL, *LARGE)).mean(0) for m in easier},
    }
    if not harder or not easier:
        return Finding(Verdict.FAILS, evidence, counterexample=evidence)
    needed = "training sees D_ρ as it is (an ensemble over subsets with other length biases may find small ρ the easier side)"
    return Finding(Verdict.HOLDS_IF, evidence, needed, counterexample=against)


def length_weights(rhos: Sequence[float], seed: int = 0) -> dict[str, float]:
    """The weight of length in a reward model trained on D_ρ over the root mean square weight of the visible qualities.

    Without any bias of the training set it estimates the oracle's own, given under ``oracle``.
    """
    design = Design()
    world = make_world(design, seed)
    rng = np.random.default_rng(seed)
    count = round(design.comparisons * design.prompts)
    wins = np.stack([draw_biased(world, rho, count, rng) for rho in rhos])
    features = world.features[: design.prompts]
    centred = (features - features.mean(1, keepdims=True)).reshape(-1, features.shape[-1])
    rewards = task_of(world, wins, design).reward_fit.reward.numpy().reshape(len(rhos), -1)
    weights = np.linalg.lstsq(centred, rewards.T, rcond=None)[0]
    ratio = weights[0] / np.sqrt((weights[1:] ** 2).mean(0))
    quality = design.scale * np.sqrt((1 - design.hidden) / design.qualities)
    return {"oracle": world.bonus / quality, **{f"rho_{rho:g}": float(r) for rho, r in zip(rhos, ratio, strict=True)}}


@claim(
    "distillation-length-bias-gains",
    statement="Figure 2, as the notes report it (002, line 6)",
    says="Distilled and pessimistic methods improve on π_SFT by a sizable amount at every length bias.",
    assumes="as in the experiment: β chosen on validation prompts by the oracle's reward.",
    predicts="an advantage over π_SFT well above 0 for d-DPO, p-DPO, dp-DPO and e-DPO at all seven ρ.",
    tested="the tabular twin, 5 worlds; the lower end of each 95% interval against 0.1 standard deviations of the oracle",
    expects="holds",
    slow=True,
)
def distillation_gains_at_every_bias() -> Finding:
    """The least lower confidence limit over methods and ρ."""
    methods = ("d-dpo", "p-dpo", "dp-dpo", "e-dpo", "e-dpo-length")
    rows = advantage_curves(RHOS, methods, SEEDS)
    intervals = {m: [rates.mean(column) for column in table(rows, m, RHOS).T] for m in methods}
    least = {m: min(interval.low for interval in found) for m, found in intervals.items()}
    evidence = {
        "twin": TWIN,
        "seeds": [SEEDS[0], SEEDS[-1]],
        "rho": list(RHOS),
        "advantage_sd": {m: [interval.value for interval in found] for m, found in intervals.items()},
        "least_lower_limit_sd": least,
        "sizable_sd": SIZABLE,
        "uncertified_fits": sum(row["uncertified"] for row in rows),
    }
    holds = min(least.values()) > SIZABLE
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else evidence)


BASELINES, DISTILLED = ("dpo", "ipo"), ("d-dpo", "e-dpo", "e-dpo-length")
# Which classes generalise across prompts, and how labels are made.
ARMS = {
    "shared_features": (Design(), range(100, 116)),
    "shared_features_sampled_labels": (Design(noise=1.0), range(100, 104)),
    "tables": (Design(prompts=30, policy_features=False, reward_features=False, new_prompts=0), range(100, 104)),
}


@claim(
    "distillation-length-bias-robust",
    statement="Figure 2: distillation against DPO and IPO (restored; the curves are not in our text)",
    says="Where the training set prefers shorter responses, distillation is more robust than DPO and IPO.",
    assumes="as in the experiment; how the ensemble's members differ is elided in our text.",
    predicts="a larger advantage than DPO's and IPO's, averaged over ρ = 0.2, 0.3, 0.4.",
    tested="three arms of the tabular twin: shared features (16 worlds), the same with labels drawn from σ(Δr) (4), and "
    "unrestricted tables of 30 prompts (4); d-DPO, e-DPO with bootstrap members, and e-DPO with members trained on subsets "
    "of other length biases (e-dpo-length); differences within a world, 95% intervals, not adjusted for their number",
    expects="holds",
    slow=True,
)
def distillation_is_more_robust() -> Finding:
    """Differences from both baselines in each arm."""
    averaged, hardest = {}, {}
    for name, (design, seeds) in ARMS.items():
        rows = advantage_curves(SMALL, (*BASELINES, *DISTILLED), seeds, design)
        averaged[name], hardest[name] = compared(rows, SMALL), compared(rows, SMALL[:1])
    beats = {name: [m for m in found if beats_all(found[m])] for name, found in averaged.items()}
    evidence = {
        "twin": TWIN,
        "seeds": {name: [seeds[0], seeds[-1]] for name, (_, seeds) in ARMS.items()},
        "difference_sd_estimate_low_high": averaged,
        "difference_at_rho_0.2": hardest,
        "beats_both_baselines": beats,
    }
    if all(len(beats[name]) == len(DISTILLED) for name in ARMS):
        return Finding(Verdict.HOLDS, evidence)
    winners = sorted({m for found in beats.values() for m in found})
    if not winners:
        return Finding(Verdict.FAILS, evidence, counterexample=averaged)
    without = {name: {m: found[m] for m in found if m not in beats[name]} for name, found in averaged.items()}
    where = ", ".join(name for name in ARMS if beats[name])
    needed = f"the method is {', '.join(winners)}, in the arms {where}; elsewhere none is ahead of both baselines"
    return Finding(Verdict.HOLDS_IF, evidence, needed, counterexample={"not_better_than_both": without})


def beats_all(differences: dict[str, list[float]]) -> bool:
    """Whether every interval (estimate, low, high) lies above 0."""
    return min(low for _, low, _ in differences.values()) > 0


def compared(rows: Sequence[dict[str, Any]], rhos: Sequence[float]) -> dict[str, dict[str, list[float]]]:
    """Each distilled method's advantage minus each baseline's, averaged over ρ, in standard deviations: estimate, low, high."""
    gains = {m: table(rows, m, rhos).mean(1) for m in (*BASELINES, *DISTILLED)}
    return {m: {f"minus_{b}": shown(rates.mean(gains[m] - gains[b])) for b in BASELINES} for m in DISTILLED}

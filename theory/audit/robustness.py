"""Robustness: flipped labels, data that look away from the target, and classes too small for it."""

from __future__ import annotations

import math

from theory.audit import exhibits
from theory.audit.classes import Misspecified, in_policy_class, in_reward_class, learns_reward, trained
from theory.audit.coverage import DATA_SETS, Coverage, N, coverage, log_slope
from theory.audit.exhibits import COMPARISONS, FLIPPED
from theory.audit.noise import LabelNoise, label_noise
from theory.audit.report import EXACT, NUMERICAL, SAMPLED, Finding, Section, yes
from theory.audit.subject import ZERO, Subject
from theory.audit.tuning import RESOLUTION
from theory.audit.words import nats, two, within
from theory.errors import UserError
from theory.instances.tabular import Array
from theory.solvers.newton import CERTIFIED
from theory.statistics.efficiency import asymptotic_constant

# Differences below this share of a distance are called none.
SLIGHT = 0.01

QUESTIONS = {
    "label_noise": "How far do flipped labels move the population minimiser?",
    "coverage": "How does the error grow as the data cover the target less well?",
    "policy_class": "In a policy class without the target, does it find the policy nearest to it?",
    "reward_class": "What does a reward class without γ log π* cost?",
}


def section(subject: Subject) -> Section:
    """Noise, coverage and misspecified classes, each at n = ∞; coverage by simulation too."""
    title = "What if labels are noisy, coverage is poor or a class is too small?"
    if subject.limit.finite is False:
        why = "it has no finite population minimiser, so that nothing can move"
        return Section("robustness", title, [_absent(id, "no minimiser", why) for id in QUESTIONS])
    noise, covered = label_noise(subject), _coverage_or_none(subject)
    policy = in_policy_class(subject) if "policy" in trained(subject) else None
    reward = in_reward_class(subject) if learns_reward(subject) else None
    findings = [
        _noise(subject, noise),
        _coverage(subject, covered),
        _policy_class(subject, policy),
        _reward_class(subject, reward),
    ]
    tables = [*exhibits.noise_table(noise), *exhibits.coverage_table(subject, covered), *exhibits.class_table(policy, reward)]
    panels = [*exhibits.noise_panel(subject, noise), *exhibits.coverage_panel(covered)]
    return Section("robustness", title, findings, tables, panels)


def _absent(id: str, verdict: str, why: str) -> Finding:
    return Finding(f"robustness.{id}", QUESTIONS[id], verdict, why, "", EXACT)


def _finding(id: str, verdict: str, answer: str, family: str, basis: str, **numbers: object) -> Finding:
    return Finding(f"robustness.{id}", QUESTIONS[id], verdict, answer, family, basis, numbers)


def _unsettled(gradient: float) -> str:
    return f"the solver stops at a gradient of {gradient:.1e}, as at a kink: its numbers are no minimiser's"


def _basis(subject: Subject, gradient: float) -> str:
    return EXACT if subject.limit.chosen.kind != "local" and gradient <= CERTIFIED else NUMERICAL


def _noise_verdict(noise: LabelNoise, error: float) -> str:
    if not noise.finite.all():
        return "collapses"
    if not noise.settled:
        return "not decided"
    if noise.shift.max() <= ZERO:
        return "immune"
    return "sensitive" if noise.at(FLIPPED) > error else "tolerant"


def _noise(subject: Subject, noise: LabelNoise) -> Finding:
    error, gradient = asymptotic_constant(subject.instance) / COMPARISONS, float(noise.gradient_norm.max())
    verdict, moved = _noise_verdict(noise, error), noise.at(FLIPPED)
    after = float(noise.to_target[noise.rates == FLIPPED][0])
    share = noise.as_much_as(error)
    if verdict == "collapses":
        answer = f"from ε = {noise.rates[~noise.finite][0]:g} flipped labels on, it has no finite minimiser"
    elif verdict == "not decided":
        answer = _unsettled(gradient)
    elif verdict == "immune":
        answer = "no share of flipped labels moves it"
    else:
        answer = f"with {FLIPPED:.0%} of the labels flipped it moves by KL(π_0‖π_ε) = {nats(moved)} nats, and its KL from π* "
        answer += f"goes from {nats(noise.to_target[0])} to {nats(after)}; KL(π_0‖π_ε) ≈ {noise.quadratic:.3g} ε² for small ε. "
        answer += f"The Cramér–Rao error of {COMPARISONS:,} comparisons is {error:.3g} nats"
        answer += f": {share:.1%} of flipped labels cost as much" if share else f": up to {noise.rates[-1]:.0%} cost less"
    numbers = {
        "rates": noise.rates.tolist(),
        "to_target": noise.to_target.tolist(),
        "shift": noise.shift.tolist(),
        "curvature": noise.curvature,
        "as_much_as_error": share,
        "statistical_error": error,
    }
    family = f"{subject.describe(subject.instance)}; hyperparameters best without noise"
    return _finding("label_noise", verdict, answer, family, _basis(subject, gradient), **numbers)


def _coverage_or_none(subject: Subject) -> Coverage | None:
    try:
        return coverage(subject)
    except UserError:
        return None


def _coverage(subject: Subject, found: Coverage | None) -> Finding:
    if found is None:
        why = "the target is so close to uniform that no tilt of the data leaves it uncovered"
        return _absent("coverage", "does not apply", why)
    gradient, slope, means = float(found.gradient_norm.max()), found.slope, found.means
    family = f"{subject.describe(subject.instance)}; μ ∝ (π*)^(1−t), t ≥ 0 such that C = {_few(found.coefficients)}"
    if not found.settled:
        return _finding("coverage", "not decided", _unsettled(gradient), family, NUMERICAL)
    own, efficient = (float(log_slope(found.coefficients, c)[0]) for c in (found.constant, found.efficient))
    answer = f"from C = {_few(found.coefficients)} the error at n = {N:,} goes from {within(means[0])} to {within(means[-1])} "
    answer += f"nats (log–log slope {two(slope.value)} [{two(slope.low)}, {two(slope.high)}]), its floor at n = ∞ from "
    answer += f"{nats(found.floor[0])} to {nats(found.floor[-1])}"
    if math.isfinite(own):
        answer += f", the c of its c/n from {found.constant[0]:.3g} to {found.constant[-1]:.3g} "
        answer += f"(Cramér–Rao: {found.efficient[0]:.3g} to {found.efficient[-1]:.3g})"
    numbers = {
        "slope": slope.value,
        "interval": [slope.low, slope.high],
        "slope_of_constant": own if math.isfinite(own) else None,
        "slope_of_cramer_rao": efficient,
        "coefficients": found.coefficients.tolist(),
        "floors": found.floor.tolist(),
        "errors": [m.value for m in means],
        "intervals": [[m.low, m.high] for m in means],
    }
    detail = f"{family}; {'tuned at each C; ' if found.value is not None else ''}{DATA_SETS} data sets"
    return _finding("coverage", f"slope {two(slope.value)}", answer, detail, SAMPLED, **numbers)


def _few(values: Array) -> str:
    return f"{values[0]:,.0f} to {values[-1]:,.0f}"


def _policy_class(subject: Subject, found: Misspecified | None) -> Finding:
    if found is None:
        return _absent("policy_class", "does not apply", "it trains no policy")
    nearest = found.excess <= SLIGHT * found.least + RESOLUTION
    answer = f"it ends {nats(found.forward_kl)} nats from π*, the nearest policy of the class {nats(found.least)}: an excess of "
    answer += f"{nats(max(found.excess, 0.0))} (π_ref: {nats(found.reference)})"
    return _in_class(subject, "policy_class", yes(nearest), answer, found)


def _reward_class(subject: Subject, found: Misspecified | None) -> Finding:
    if found is None:
        given = subject.objective.needs_reward and subject.options.oracle != "learned"
        return _absent("reward_class", "does not apply", "it is given the true reward" if given else "it learns no reward")
    answer = f"it ends {nats(found.forward_kl)} nats from π*, with the full reward class {nats(found.full)} "
    answer += f"(nearest exp(φ·w)/Z: {nats(found.least)}; π_ref: {nats(found.reference)})"
    return _in_class(subject, "reward_class", _change(found), answer, found)


def _change(found: Misspecified) -> str:
    slight = SLIGHT * found.full + RESOLUTION
    change = found.forward_kl - found.full
    return "nothing" if abs(change) <= slight else "costs" if change > 0 else "helps"


def _in_class(subject: Subject, id: str, verdict: str, answer: str, found: Misspecified) -> Finding:
    gradient = float(found.limits.gradient_norm[0])
    if not found.settled:
        verdict, answer = "not decided", _unsettled(gradient)
    if found.both:
        answer += "; its reward head and its policy share the class"
    d, own = found.world.features.shape[-1], subject.instance.features is not None  # type: ignore[union-attr]
    phi = "its own features" if own else "a class with π_ref in it: φ = (log π_ref, log π* + noise, noise)"
    numbers = {
        "forward_kl": found.forward_kl,
        "best_in_class": found.least,
        "excess": found.excess,
        "full_class": found.full,
        "reference": found.reference,
        "hyperparameters": {name: float(value[0]) for name, value in found.limits.chosen.hyper.items()},
    }
    family = f"{subject.describe(subject.instance)}; {phi}, d = {d}"
    exact = found.limits.chosen.kind != "local" and gradient <= CERTIFIED
    return _finding(id, verdict, answer, family, EXACT if exact else NUMERICAL, **numbers)

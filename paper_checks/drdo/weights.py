"""The factors that scale DPO's and DRDO's gradients, and what they do on a pair that is not deterministic."""

from __future__ import annotations

import math
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from paper_checks.claims import Finding, claim
from paper_checks.drdo.degeneracy import FAIR_PAIR
from paper_checks.drdo.focal import GAMMA_F, exact_gradient, pair_of
from paper_checks.drdo.outcome import conditional, judged
from theory import objectives
from theory.simulation import Settings, draw_data, make_task, solve

# Table 6 (000, line 319) and DPO's own setting (000, line 323).
ALPHA, BETA = 0.1, 0.1


@claim(
    "drdo-modulating-like-dpo",
    statement="§4, How does the DRDO gradient update affect preference learning?",
    says="The modulating term (1−p_w)^γf acts like DPO's gradient scaling term.",
    assumes="p_w = σ(Δlogπ); DPO's gradient carries β σ(−β(Δlogπ − Δlogπ_ref)).",
    predicts="both fall in the margin, from 1 to 0 relative to their largest.",
    tested="symbolically: the two agree at γf = 1, β = 1 and equal reference probabilities, and both are decreasing",
    expects="holds",
)
def modulation() -> Finding:
    """(1−p_w)^γf = σ(−Δ)^γf: DPO's own weight at γf = 1."""
    m = sp.Symbol("m", real=True)
    exponent, beta = sp.symbols("gamma_f beta", positive=True)
    falling = lambda x: 1 / (1 + sp.exp(x))  # noqa: E731
    focal, dpo = falling(m) ** exponent, falling(beta * m)
    same = sp.simplify(focal.subs(exponent, 1) - dpo.subs(beta, 1)) == 0
    decreasing = [bool(sp.simplify(sp.diff(w, m)).is_negative) for w in (focal, dpo)]
    values = {str(v): [float(w.subs({m: v, exponent: 2, beta: sp.Rational(1, 10)})) for w in (focal, dpo)] for v in (-10, 0, 10)}
    evidence = {"equal_at_unit_exponent_and_beta": same, "decreasing": decreasing, "focal_and_dpo_by_margin": values}
    return judged(same and all(decreasing), evidence)


def dpo_weight(margin: float, beta: float = BETA) -> float:
    """|∂ℓ/∂log π_w| of DPO at an implicit-reward margin u = β(Δlogπ − Δlogπ_ref): β σ(−u)."""
    pair = pair_of(margin / beta, 0.0)
    zero = torch.zeros((), dtype=torch.float64)
    loss = objectives.get("dpo").terms(pair.replace(ref_logp_chosen=zero, ref_logp_rejected=zero), beta=beta).loss
    assert isinstance(loss, Tensor)
    return abs(float(torch.autograd.grad(loss, pair.logp_chosen)[0]))


@claim(
    "drdo-dpo-gradient-nullified",
    statement="§3, after Lemma 1; A.5",
    says="On non-deterministic pairs DPO's gradient is effectively nullified, and its weight contributes less than elsewhere.",
    assumes="a non-deterministic pair's implicit rewards are about equal (Lemma 1a).",
    predicts="β σ(−u) near 0 at u = 0, or below its value at the margins of deterministic pairs.",
    tested="the weight by automatic differentiation at u from −10 to 10, β = 0.1; its mean over labels drawn with P = ½",
    expects="holds-if",
)
def dpo_on_fair_pairs() -> Finding:
    """At u = 0 it is β/2, half of its largest; only the mean over both labels is zero, at the margin that is right."""
    weights = {u: dpo_weight(u) for u in (-10.0, -1.0, 0.0, 1.0, 3.0, 10.0)}
    mean = {f"{u:g}": (dpo_weight(u) - dpo_weight(-u)) / 2 for u in (-1.0, 0.0, 1.0)}
    evidence = {
        "weight_over_beta_by_margin": {f"{u:g}": w / BETA for u, w in weights.items()},
        "mean_pull_on_a_fair_pair_by_margin": mean,
        "learned_deterministic_pair_has_weight_over_beta": weights[3.0] / BETA,
    }
    return conditional(
        mean["0"] == 0 and mean["1"] < 0 < mean["-1"],
        weights[0.0] > 0.4 * BETA and weights[0.0] > weights[3.0],
        evidence,
        assumption="each such pair is labelled both ways equally often: the pulls then cancel, at the margin that is right",
        counterexample={"labels": "one", "margin": 0.0, "weight_over_beta": weights[0.0] / BETA, "largest_possible": 1.0},
    )


def mean_pulls(log_winner: float, log_loser: float, gamma_f: float = GAMMA_F) -> dict[str, float]:
    """The focal term's descent on a pair labelled both ways equally often: along its margin and its level."""
    ahead, behind = exact_gradient(log_winner, log_loser, gamma_f), exact_gradient(log_loser, log_winner, gamma_f)
    first, second = (-(ahead[0] + behind[1]) / 2, -(ahead[1] + behind[0]) / 2)
    return {"margin": first - second, "level": first + second}


def drdo_margin_on_tied_pair() -> float:
    """log π(0)/π(1) of DRDO's population minimiser on two equally good responses that π_ref tells apart, nats."""
    settings = Settings(objectives.get("drdo"), {"alpha": ALPHA, "gamma_f": GAMMA_F}, rule="fixed")
    outcome = solve(FAIR_PAIR, make_task(FAIR_PAIR, draw_data(FAIR_PAIR, math.inf, 0), settings), settings)
    return float(outcome.logp[0, 0, 0] - outcome.logp[0, 0, 1])


@claim(
    "drdo-focal-keeps-active",
    statement="§4 and A.5, on p_w ≈ ½",
    says="On non-deterministic pairs the focal term keeps gradients active and promotes learning, where DPO's vanish.",
    assumes="p_w ≈ ½; α = 0.1 and γf = 2 as in Table 6, β = 0.1 for DPO.",
    predicts="a factor (1−p_w)^γf near its largest at p_w = ½, and pulls that do not cancel over the labels.",
    tested=(
        "both weights relative to their largest; the mean pull over labels drawn with P = ½ along the pair's margin and level, "
        "at log π = −2 and −100; the population minimiser on a tied pair (V = 4)"
    ),
    expects="holds-if",
)
def focal_on_fair_pairs() -> Finding:
    """One label pulls, though the factor is ¼ where DPO's is ½; along the margin the labels cancel, as in DPO."""
    short, long = mean_pulls(-2.0, -2.0), mean_pulls(-100.0, -100.0)
    factor = 0.5**GAMMA_F
    evidence: dict[str, Any] = {
        "factor_at_one_half_over_largest": {"drdo": factor, "dpo": dpo_weight(0.0) / BETA},
        "pull_of_one_label_on_winner": {
            "drdo, log π = −2": -ALPHA * exact_gradient(-2.0, -2.0, GAMMA_F)[0],
            "drdo, log π = −100": -ALPHA * exact_gradient(-100.0, -100.0, GAMMA_F)[0],
            "dpo": dpo_weight(0.0),
        },
        "mean_pull_along_margin": {"−2": short["margin"], "−100": long["margin"]},
        "mean_pull_along_level": {"−2": short["level"], "−100": long["level"]},
        "margin_on_a_tied_pair_at_the_population_minimiser": drdo_margin_on_tied_pair(),
    }
    return conditional(
        evidence["pull_of_one_label_on_winner"]["drdo, log π = −2"] > 0,
        short["margin"] == 0 and factor < dpo_weight(0.0) / BETA,
        evidence,
        assumption="active means a pull by each single label; over both labels of a fair pair its margin's pull cancels too",
        counterexample={
            "log_probabilities": [-2.0, -2.0],
            "mean_pull_along_margin": short["margin"],
            "factor": factor,
            "dpo": 0.5,
        },
    )

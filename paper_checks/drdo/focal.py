"""A.5: the gradient of the focal log-odds term, and what its simplification keeps."""

from __future__ import annotations

import math

import sympy as sp
import torch
from torch.nn.functional import logsigmoid

from paper_checks.claims import Finding, claim
from paper_checks.drdo.outcome import conditional, error, judged
from theory.objectives import Pair
from theory.objectives.drdo import focal_log_odds
from theory.objectives.numerics import log1mexp

EXPONENTS = (0.0, 0.5, 1.0, 2.0, 5.0)
# |log π_w| from a likely response to one of some hundred tokens, and margins Δlogπ, in nats.
LEVELS = (0.1, 1.0, 10.0, 50.0, 100.0, 500.0)
MARGINS = (-10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0)
# Table 6 (000, line 320).
GAMMA_F = 2.0


def pair_of(log_winner: float, log_loser: float) -> Pair:
    """A pair whose two log-probabilities are float64 leaves to differentiate in."""
    leaves = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (log_winner, log_loser))
    return Pair(**dict(zip(("logp_chosen", "logp_rejected"), leaves, strict=True)))


def exact_gradient(log_winner: float, log_loser: float, gamma_f: float) -> tuple[float, float]:
    """∂f/∂log π_w and ∂f/∂log π_l of the focal term by automatic differentiation in float64."""
    pair = pair_of(log_winner, log_loser)
    found = torch.autograd.grad(focal_log_odds(pair, gamma_f=gamma_f), (pair.logp_chosen, pair.logp_rejected))
    return float(found[0]), float(found[1])


def parts(log_winner: float, log_loser: float, gamma_f: float) -> dict[str, float]:
    """The gradient's terms in (log π_w, log π_l), as A.5 splits them.

    dropped: γf (1−p_w)^γf p_w (∇log π_w − ∇log π_l) A, kept: −(1−p_w)^γf (∇log π_w + π_l/(1−π_l) ∇log π_l),
    with A = log(π_w/(1 − π_l)) ≤ 0. Source: drdo eq. 30–34.
    """
    a, b = (torch.tensor(value, dtype=torch.float64) for value in (log_winner, log_loser))
    weight = float((gamma_f * logsigmoid(b - a)).exp())
    slope = gamma_f * weight * float(torch.sigmoid(a - b)) * float(a - log1mexp(b))
    odds = math.exp(log_loser - float(log1mexp(b)))
    return {"dropped_winner": slope, "dropped_loser": -slope, "kept_winner": -weight, "kept_loser": -weight * odds}


def grid(gamma_f: float) -> list[tuple[float, float, dict[str, float]]]:
    """(level, margin, parts) wherever the two probabilities sum to less than 1."""
    points = [(-level, -level - margin) for level in LEVELS for margin in MARGINS]
    inside = [(a, b) for a, b in points if b < 0 and math.exp(a) + math.exp(b) < 1]
    return [(a, a - b, parts(a, b, gamma_f)) for a, b in inside]


def share_dropped(part: dict[str, float]) -> float:
    """The dropped term in ∇log π_w over the kept one: γf p_w |A|."""
    return part["dropped_winner"] / part["kept_winner"]


def level_where(ratio: float, gamma_f: float, p_winner: float = 0.5) -> float:
    """|A|, which is |log π_w| for long responses, at which the dropped term is ``ratio`` times the kept one."""
    return ratio / (gamma_f * p_winner)


@claim(
    "drdo-a5-gradient",
    statement="A.5, eq. 30–34",
    says="The term that comes from differentiating the modulating factor is small and can be ignored.",
    assumes="the modulating term times its derivative is “typically small” (000, line 263).",
    predicts="|dropped| ≪ |kept| in the coefficient of ∇log π_w.",
    tested=(
        "the split against automatic differentiation in float64, and the ratio γf·p_w·|log π_w/(1 − π_l)|, over |log π_w| "
        "from 0.1 to 500 nats, margins from −10 to 10 and γf in {0, 0.5, 1, 2, 5}"
    ),
    expects="holds-if",
)
def dropped_gradient() -> Finding:
    """The ratio is γf·p_w·|A|: zero at γf = 0, and 100 for a fair pair of 100 nats at γf = 2."""
    grids = {g: grid(g) for g in EXPONENTS}
    away = max(_split_error(a, m, g, part) for g, points in grids.items() for a, m, part in points)
    largest = {f"{g:g}": max(share_dropped(p) for _, _, p in points) for g, points in grids.items()}
    at_half = {f"{-a:g}": share_dropped(p) for a, m, p in grids[GAMMA_F] if m == 0}
    evidence = {
        "largest_relative_error_of_the_split": error(away, 1e-12),
        "largest_ratio_by_exponent": largest,
        "ratio_at_p_one_half_by_level": at_half,
        "level_of_ratio_one_tenth_at_p_one_half": level_where(0.1, GAMMA_F),
        "level_of_equality_at_p_one_half": level_where(1.0, GAMMA_F),
        "points": sum(len(points) for points in grids.values()),
        "points_where_dropped_exceeds_kept": sum(share_dropped(p) > 1 for points in grids.values() for _, _, p in points),
    }
    point = parts(-100.0, -100.0, GAMMA_F)
    example = {"log_probabilities": [-100.0, -100.0], "exponent": GAMMA_F, "ratio": share_dropped(point), **point}
    return conditional(
        away < 1e-12 and largest["0"] == 0,
        share_dropped(point) > 1,
        evidence,
        assumption="γf·p_w·|log π_w| ≪ 1; exact at γf = 0",
        counterexample=example,
    )


def _split_error(log_winner: float, margin: float, gamma_f: float, part: dict[str, float]) -> float:
    exact = exact_gradient(log_winner, log_winner - margin, gamma_f)
    found = (part["dropped_winner"] + part["kept_winner"], part["dropped_loser"] + part["kept_loser"])
    return max(abs(e - f) for e, f in zip(exact, found, strict=True)) / max(map(abs, part.values()))


@claim(
    "drdo-a5-unlikelihood-direction",
    statement="A.5, after eq. 34",
    says="The simplified gradient discourages the dispreferred response.",
    assumes="eq. 6 as restored: −α(1−p_w)^γf log(π(y_w)/(1 − π(y_l))).",
    predicts="descending the kept terms lowers log π_l: their derivative in log π_l is positive.",
    tested=(
        "the sign of −(1−p_w)^γf π_l/(1−π_l), and the move of the loser's logit on a table, symbolically; the sign of the full "
        "derivative over the grid of drdo-a5-gradient; the first two for π_w(1 − π_l) in place of the quotient too"
    ),
    expects="fails",
)
def unlikelihood_direction() -> Finding:
    """The kept terms favour y_l at every pair, by leaving its logit while others fall; the dropped term is what lowers it."""
    weight, odds, p = sp.symbols("weight odds p", positive=True)
    grids = {f"{g:g}": grid(g) for g in EXPONENTS}
    lowered = {g: sum(p["dropped_loser"] + p["kept_loser"] > 0 for _, _, p in points) for g, points in grids.items()}
    evidence = {
        "kept_derivative_is_negative": bool((-weight * odds).is_negative),
        "kept_derivative_with_the_product_is_positive": bool((weight * odds).is_positive),
        # On a table ∇log π_w reaches the loser's logit as −π_l, and ∇log π_l as 1 − π_l.
        "kept_descent_of_the_loser_logit_over_weight": str(sp.simplify(-p + p / (1 - p) * (1 - p))),
        "the_same_with_the_product": str(sp.simplify(-p - p / (1 - p) * (1 - p))),
        "points_where_the_full_gradient_lowers_the_loser": {g: [n, len(grids[g])] for g, n in lowered.items()},
        "full_gradient_lowers_it_where": "γf·p_w·|log(π_w/(1 − π_l))| > π_l/(1 − π_l)",
        "winner_is_raised_everywhere": all(p["dropped_winner"] + p["kept_winner"] < 0 for ps in grids.values() for _, _, p in ps),
    }
    example = {"probabilities": [0.3, 0.2], **parts(math.log(0.3), math.log(0.2), GAMMA_F)}
    return judged(not evidence["kept_derivative_is_negative"], evidence, example)

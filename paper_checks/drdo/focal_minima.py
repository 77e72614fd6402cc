"""What minimises DRDO's preference term on one pair."""

from __future__ import annotations

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from paper_checks.claims import Finding, claim
from paper_checks.drdo.comparisons import task_of
from paper_checks.drdo.flow import gradient_flow
from paper_checks.drdo.focal import GAMMA_F
from paper_checks.drdo.outcome import conditional, error, judged
from theory import objectives
from theory.objectives import Pair
from theory.objectives.drdo import focal_log_odds

ONE_WAY = [(0, 1, 1.0)]


def focal(pair: Pair, *, gamma_f: float | Tensor = GAMMA_F) -> Tensor:
    """DRDO's preference term alone."""
    return focal_log_odds(pair, gamma_f=gamma_f)


FOCAL = objectives.make(focal)


def focal_at(winner: float, loser: float, gamma_f: float = GAMMA_F) -> float:
    """The focal term of one pair at two probabilities."""
    logs = (torch.tensor(p, dtype=torch.float64).log() for p in (winner, loser))
    return float(focal(Pair(**dict(zip(("logp_chosen", "logp_rejected"), logs, strict=True))), gamma_f=gamma_f))


def focal_symbolic(winner: sp.Expr, loser: sp.Expr, gamma_f: sp.Expr) -> sp.Expr:
    """−(1−p_w)^γf log(π_w/(1 − π_l)) with p_w = π_w/(π_w + π_l), symbolically. Source: drdo eq. 6, as restored."""
    return -((loser / (winner + loser)) ** gamma_f) * sp.log(winner / (1 - loser))


@claim(
    "drdo-v2-identically-zero",
    statement="Eq. 6, with two responses",
    says="The focal log-odds term learns the preference within a pair.",
    assumes="a context with only the two responses, so that π(y_w) = 1 − π(y_l).",
    predicts="the term depends on π(y_w).",
    tested="symbolically, for every γf; and its values at γf = 2",
    expects="fails",
)
def two_responses() -> Finding:
    """The odds are 1 and the term is 0 at every policy and label."""
    p, exponent = sp.symbols("p gamma_f", positive=True)
    symbolic = sp.simplify(focal_symbolic(p, 1 - p, exponent))
    values = {f"{w:g}": focal_at(w, 1 - w) for w in (0.1, 0.5, 0.9)}
    evidence = {"symbolic_value": str(symbolic), "value_by_probability_of_winner": {k: error(abs(v)) for k, v in values.items()}}
    return judged(symbolic != 0 or max(map(abs, values.values())) > 1e-12, evidence)


@claim(
    "drdo-focal-single-pair",
    statement="A.5, last paragraph",
    says="The focal term is minimised precisely where winning and losing probabilities are pushed apart.",
    assumes="one pair, in a context with further responses.",
    predicts="its least value, 0, needs p_w → 1.",
    tested=(
        "log(π_w/(1 − π_l)) ≤ 0 since π_w + π_l ≤ 1, so 0 is least and reached wherever the pair has all the mass: values there; "
        "gradient flow from a uniform policy over three responses to t = 1e6, for γf = 1 and 2"
    ),
    expects="holds-if",
)
def single_pair() -> Finding:
    """0 is reached at every split of all the mass on the pair, also where the loser has 99% of it."""
    values = {f"{w:g}": abs(focal_at(w, 1 - w)) for w in (0.01, 0.5, 0.99)}
    ends = {g: np.exp(gradient_flow(FOCAL, task_of(ONE_WAY, 3), [1e2, 1e6], gamma_f=g)) for g in (1.0, 2.0)}
    evidence = {
        "value_by_share_of_the_winner": {share: error(v) for share, v in values.items()},
        "value_with_a_third_response": focal_at(0.4, 0.3),
        "flow_from_uniform_at_1e2_and_1e6": {f"{g:g}": end.tolist() for g, end in ends.items()},
    }
    return conditional(
        all(end[1, 1] < min(end[0, 1], 0.01) for end in ends.values()),
        max(values.values()) < 1e-8 and focal_at(0.4, 0.3) > 0,
        evidence,
        assumption="training starts with mass outside the pair, as from π_ref, and follows the gradient",
        counterexample={"winner": 0.01, "loser": 0.99, "p_w": 0.01, "value": error(values["0.01"])},
    )

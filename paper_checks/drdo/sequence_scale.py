"""Where the unlikelihood part of DRDO's focal term disappears in floating point."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from paper_checks.claims import Finding, claim
from paper_checks.drdo.focal import GAMMA_F
from paper_checks.drdo.outcome import conditional
from theory.objectives import Pair
from theory.objectives.drdo import focal_log_odds
from theory.objectives.numerics import log1mexp

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
# A short response, and the average preferred one of UltraFeedback (000, line 89) at one nat a token.
TOKENS, NATS = 50, 2.0
ULTRAFEEDBACK_TOKENS = 168.8


def naive_log1mexp(a: Tensor) -> Tensor:
    """log(1 − eᵃ) as it reads."""
    return torch.log(1 - torch.exp(a))


def value(function: Callable[[Tensor], Tensor], log_loser: float, dtype: torch.dtype) -> float:
    """The function's size at log π_l."""
    return abs(float(function(torch.tensor(log_loser, dtype=dtype))))


def slope(function: Callable[[Tensor], Tensor], log_loser: float, dtype: torch.dtype) -> float:
    """The size of the function's gradient at log π_l."""
    leaf = torch.tensor(log_loser, dtype=dtype, requires_grad=True)
    return abs(float(torch.autograd.grad(function(leaf), leaf)[0]))


def vanishes_below(seen: Callable[[float], float], low: float = -2000.0, high: float = -0.5) -> float:
    """The log-probability below which ``seen`` is exactly 0, by bisection to 0.001 nats."""
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if seen(middle) == 0 else (low, middle)
    return low


def absorbed(log_loser: float, dtype: torch.dtype) -> float:
    """What log(1 − π_l) still changes in log π_w − log(1 − π_l) at log π_w = log π_l."""
    a = torch.tensor(log_loser, dtype=dtype)
    return abs(float((a - log1mexp(a)) - a))


def without_unlikelihood(pair: Pair) -> Tensor:
    """Focal-weighted SFT: the focal term of a pair with log(1 − π_l) left out of the odds."""
    weight = focal_log_odds(pair, gamma_f=GAMMA_F) / (pair.logp_chosen - log1mexp(pair.logp_rejected))
    return weight * pair.logp_chosen


def share_of_unlikelihood(log_prob: float) -> float:
    """How much of the focal term's value log(1 − π_l) makes up at equal probabilities, in float64."""
    a = torch.tensor(log_prob, dtype=torch.float64)
    pair = Pair(logp_chosen=a, logp_rejected=a)
    whole = focal_log_odds(pair, gamma_f=GAMMA_F)
    return float((whole - without_unlikelihood(pair)).abs() / whole.abs())


@claim(
    "drdo-unlikelihood-sequence-scale",
    statement="Eq. 6 and A.5",
    says="The preference term combines the likelihood of the preferred with the unlikelihood of the dispreferred response.",
    assumes="the whole response is the action, its log-probability a sum over tokens (000, line 263).",
    predicts="log(1 − π(y_l)) and its gradient make a difference to the loss.",
    tested=(
        "log π_l below which log(1 − π_l), its gradient, and its share of the loss are exactly 0, as written and by log1mexp, in "
        "three formats; a response of 50 tokens at −2 nats each and one of 168.8 at −1, summed and averaged"
    ),
    expects="holds-if",
)
def unlikelihood_at_scale() -> Finding:
    """Summed, it is zero to machine precision from some 30 nats on; averaged over tokens it is not."""
    seen: dict[str, Callable[..., float]] = {
        "as written": partial(value, naive_log1mexp),
        "log1mexp": partial(value, log1mexp),
        "gradient of log1mexp": partial(slope, log1mexp),
        "in the loss": absorbed,
    }
    thresholds = {
        name: {what: vanishes_below(partial(look, dtype=dtype)) for what, look in seen.items()} for name, dtype in DTYPES.items()
    }
    shares = {
        "50 tokens, sum −100": share_of_unlikelihood(-TOKENS * NATS),
        "168.8 tokens, sum −168.8": share_of_unlikelihood(-ULTRAFEEDBACK_TOKENS),
        "mean −2": share_of_unlikelihood(-NATS),
        "mean −1": share_of_unlikelihood(-1.0),
    }
    evidence = {"zero_below_in_nats": thresholds, "share_of_the_focal_term_in_float64": shares}
    return conditional(
        shares["mean −2"] > 0.01,
        shares["50 tokens, sum −100"] == 0,
        evidence,
        assumption="log-probabilities are averaged over tokens, or responses are a few tokens long",
        counterexample={"log_probability": -TOKENS * NATS, "share": shares["50 tokens, sum −100"], "format": "float64"},
    )

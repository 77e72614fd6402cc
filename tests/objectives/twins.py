"""Every objective once more, from shared/math.md: scalars in high precision, probabilities instead of logarithms.

Nothing here calls `theory`: a twin sees the pair as numbers and the hyperparameters as numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from mpmath import mp, mpf

# Probabilities within e^-300 of 1 lose 130 digits in their logarithm; 50 and more remain.
DIGITS = 200
FIELDS = {
    "logp_chosen": "a_w",
    "logp_rejected": "a_l",
    "ref_logp_chosen": "b_w",
    "ref_logp_rejected": "b_l",
    "reward_chosen": "r_w",
    "reward_rejected": "r_l",
    "student_reward_chosen": "s_w",
    "student_reward_rejected": "s_l",
    "length_chosen": "n_w",
    "length_rejected": "n_l",
}
TRAINED = ("logp_chosen", "logp_rejected", "student_reward_chosen", "student_reward_rejected")


def sigma(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def odds(p: Any) -> Any:
    """(π_w/ref_w)/(π_l/ref_l)."""
    return mp.exp(p.a_w) / mp.exp(p.b_w) / (mp.exp(p.a_l) / mp.exp(p.b_l))


def bt(p: Any, beta: Any) -> Any:
    """DPO as a probability: z^β/(1 + z^β) of the odds z."""
    z = odds(p) ** beta
    return -mp.log(z / (1 + z))


def distilled(p: Any, beta: Any) -> Any:
    return (beta * mp.log(odds(p)) - (p.r_w - p.r_l)) ** 2


def own(p: Any, gamma: Any) -> Any:
    """P(y_w ≻ y_l) of the preference model (eq. 2) at the policy itself."""
    w, l = mp.exp(p.a_w) ** gamma, mp.exp(p.a_l) ** gamma  # noqa: E741
    return w / (w + l)


def phi(z: Any) -> Any:
    """χPO's link z + log z, the exponent capped at 20."""
    return min(z, mp.exp(20)) + mp.log(z)


def chipo(p: Any, h: Any) -> Any:
    margin = h.beta * (phi(mp.exp(p.a_w) / mp.exp(p.b_w)) - phi(mp.exp(p.a_l) / mp.exp(p.b_l)))
    return -mp.log(sigma(max(-2 * h.r_max, min(2 * h.r_max, margin))))


def pref_distill(p: Any, h: Any) -> Any:
    s, q = sigma(p.r_w - p.r_l), own(p, h.gamma)
    return -(s * mp.log(q) + (1 - s) * mp.log(1 - q))


def drdo(p: Any, h: Any) -> Any:
    w, l = mp.exp(p.a_w), mp.exp(p.a_l)  # noqa: E741
    p_w = w / (w + l)
    regression = ((p.r_w - p.r_l) - (p.s_w - p.s_l)) ** 2
    return regression - h.alpha * (1 - p_w) ** h.gamma_f * mp.log(w / (1 - l))


LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "chipo": chipo,
    "d-dpo": lambda p, h: distilled(p, h.beta),
    "dp-dpo": lambda p, h: distilled(p, h.beta),
    "dpo": lambda p, h: bt(p, h.beta),
    "drdo": drdo,
    "e-dpo": lambda p, h: distilled(p, h.beta),  # of one member
    "hypo": lambda p, h: bt(p, h.beta),
    "ipo": lambda p, h: (mp.log(odds(p)) - 1 / (2 * h.tau)) ** 2,
    "oracle": lambda p, h: mp.log(1 + mp.exp(p.s_l - p.s_w)) - h.alpha_lm * p.a_w,
    "p-dpo": lambda p, h: bt(p, h.beta),
    "pmle": lambda p, h: -mp.log(own(p, h.gamma)),
    "pref-distill": pref_distill,
    "rebel": lambda p, h: (mp.log(odds(p)) / h.eta - (p.r_w - p.r_l)) ** 2,
    "reward": lambda p, h: mp.log(1 + mp.exp(p.s_l - p.s_w)),
    "sft": lambda p, h: -p.a_w,
    "simpo": lambda p, h: -mp.log(sigma(h.beta * (p.a_w / p.n_w - p.a_l / p.n_l) - h.target_margin)),
}
# On-policy alone: ℓ = 0.
LOSSLESS = {"rlhf", "rkl"}
# (a, α, β, λ) of the general form; what is not listed is ℓ alone.
COEFFICIENTS: dict[str, Callable[[Any], tuple[Any, Any, Any, Any]]] = {
    "rlhf": lambda h: (1, 0, h.beta, 0),
    "rkl": lambda h: (1 / mpf(h.gamma), h.alpha, h.beta, 0),
    "pmle": lambda h: (0, 0, h.beta, 0),
    "pref-distill": lambda h: (0, 0, h.beta, 0),
    "hypo": lambda h: (0, 0, h.kl, 0),
    "p-dpo": lambda h: (0, 0, 0, h.lambda_),
    "dp-dpo": lambda h: (0, 0, 0, h.lambda_),
    "e-dpo": lambda h: (0, 0, 0, h.lambda_),
}

# Numbers within every range, none of them a default.
HYPER: dict[str, dict[str, float]] = {
    "chipo": {"beta": 0.3, "r_max": 2.0},
    "d-dpo": {"beta": 0.7},
    "dp-dpo": {"beta": 0.7, "lambda_": 0.3},
    "dpo": {"beta": 0.7},
    "drdo": {"alpha": 0.4, "gamma_f": 1.5},
    "e-dpo": {"beta": 0.7, "lambda_": 0.3},
    "hypo": {"beta": 0.7, "kl": 0.2},
    "ipo": {"tau": 0.4},
    "oracle": {"alpha_lm": 0.6},
    "p-dpo": {"beta": 0.7, "lambda_": 0.3},
    "pmle": {"beta": 0.7},
    "pref-distill": {"beta": 0.7},
    "rebel": {"eta": 2.5},
    "reward": {},
    "rkl": {"alpha": 0.6, "beta": 0.3},
    "rlhf": {"beta": 0.7},
    "sft": {},
    "simpo": {"beta": 1.5, "target_margin": 0.4},
}
GAMMA = 1.3


def _loss(name: str, pair: dict[str, Any], hyper: dict[str, float], gamma: float) -> Any:
    numbers = SimpleNamespace(**{FIELDS[n]: mpf(v) for n, v in pair.items()})
    settings = SimpleNamespace(gamma=mpf(gamma), **{n: mpf(v) for n, v in hyper.items()})
    return LOSSES[name](numbers, settings)


def loss(name: str, pair: dict[str, float], hyper: dict[str, float], gamma: float, digits: int = DIGITS) -> Any:
    """ℓ at one pair, to 50 digits and more."""
    with mp.workdps(digits):
        return _loss(name, pair, hyper, gamma)


def derivative(name: str, pair: dict[str, float], hyper: dict[str, float], gamma: float, *fields: str) -> Any:
    """∂ℓ or ∂²ℓ in one or two of the pair's inputs, by differences to 50 digits and more."""

    def moved(*values: Any) -> Any:  # at whatever precision `diff` asks for
        return _loss(name, {**pair, **dict(zip(fields, values, strict=True))}, hyper, gamma)

    with mp.workdps(DIGITS):
        if len(fields) == 2 and fields[0] == fields[1]:
            return mp.diff(lambda x: moved(x, x), pair[fields[0]], 2)
        return mp.diff(moved, tuple(pair[f] for f in fields), (1,) * len(fields))


def draw(seed: int, size: int, scale: float) -> dict[str, torch.Tensor]:
    """Pairs of inputs in float64, log-probabilities of about −``scale``, rewards of a few nats."""
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> torch.Tensor:
        return torch.rand(size, dtype=torch.float64, generator=generator)

    pair = {}
    for name in FIELDS:
        if "logp" in name:
            pair[name] = -scale * (0.05 + uniform())
        elif "length" in name:
            pair[name] = (1 + 9 * uniform()).floor()
        else:
            pair[name] = 4 * uniform() - 2
    return pair


def rows(pair: dict[str, torch.Tensor]) -> list[dict[str, float]]:
    """The same pairs one at a time."""
    return [dict(zip(pair, numbers, strict=True)) for numbers in zip(*(t.tolist() for t in pair.values()), strict=True)]

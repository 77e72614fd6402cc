"""Twins of the code under test, written from the papers' formulas with none of its parts.

`pair_loss` and `value` are plain Python loops over pairs (math.log, math.exp); `torch_value` is the
same objective as one differentiable expression in the parameters, whose autograd derivatives the
assembled ones must equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theory.objectives import Objective, Pair


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def dpo(p: Mapping[str, float], h: Mapping[str, float]) -> float:
    return softplus(-h["beta"] * (p["lw"] - p["ll"] - p["fw"] + p["fl"]))


def distilled(p: Mapping[str, float], h: Mapping[str, float]) -> float:
    return (h["beta"] * (p["lw"] - p["ll"] - p["fw"] + p["fl"]) - (p["rw"] - p["rl"])) ** 2


def pref_distill(p: Mapping[str, float], h: Mapping[str, float]) -> float:
    s, margin = sigmoid(p["rw"] - p["rl"]), h["gamma"] * (p["lw"] - p["ll"])
    return s * softplus(-margin) + (1 - s) * softplus(margin)


def drdo(p: Mapping[str, float], h: Mapping[str, float]) -> float:
    won = sigmoid(p["lw"] - p["ll"])
    focal = (1 - won) ** h["gamma_f"] * (p["lw"] - math.log(1 - math.exp(p["ll"])))
    return (p["rw"] - p["rl"] - p["sw"] + p["sl"]) ** 2 - h["alpha"] * focal


def chipo(p: Mapping[str, float], h: Mapping[str, float]) -> float:
    def link(a: float) -> float:
        return math.exp(min(a, 20.0)) + a

    margin = h["beta"] * (link(p["lw"] - p["fw"]) - link(p["ll"] - p["fl"]))
    return softplus(-min(max(margin, -2 * h["r_max"]), 2 * h["r_max"]))


# lw, ll: log π of winner and loser; f: log π_ref; r: the fixed reward; s: the student's reward.
LOSSES: dict[str, Callable[..., float] | None] = {
    "chipo": chipo,
    "d-dpo": distilled,
    "dp-dpo": distilled,
    "dpo": dpo,
    "drdo": drdo,
    "e-dpo": distilled,
    "hypo": dpo,
    "ipo": lambda p, h: (p["lw"] - p["ll"] - p["fw"] + p["fl"] - 0.5 / h["tau"]) ** 2,
    "oracle": lambda p, h: softplus(p["sl"] - p["sw"]) - h["alpha_lm"] * p["lw"],
    "p-dpo": dpo,
    "pmle": lambda p, h: softplus(-h["gamma"] * (p["lw"] - p["ll"])),
    "pref-distill": pref_distill,
    "rebel": lambda p, h: ((p["lw"] - p["ll"] - p["fw"] + p["fl"]) / h["eta"] - p["rw"] + p["rl"]) ** 2,
    "reward": lambda p, h: softplus(p["sl"] - p["sw"]),
    "rkl": None,
    "rlhf": None,
    "sft": lambda p, h: -p["lw"],
    "simpo": lambda p, h: softplus(-(h["beta"] * (p["lw"] - p["ll"]) - h["target_margin"])),
}

LABEL_FREE = {"d-dpo", "dp-dpo", "e-dpo", "pref-distill", "rebel", "rkl", "rlhf"}
LEARNS_FROM_REWARD = {"d-dpo", "dp-dpo", "e-dpo", "pref-distill", "rebel", "rkl", "rlhf", "drdo"}
TRAINS_A_HEAD = {"drdo", "oracle", "reward"}

# Hyperparameters away from their defaults, so that a coefficient forgotten is a coefficient seen.
HYPER: dict[str, dict[str, float]] = {
    "chipo": {"beta": 0.3, "r_max": 1.7},
    "d-dpo": {"beta": 0.6},
    "dp-dpo": {"beta": 0.6, "lambda_": 0.4},
    "dpo": {"beta": 0.7},
    "drdo": {"alpha": 0.8, "gamma_f": 1.7},
    "e-dpo": {"beta": 0.6, "lambda_": 0.4},
    "hypo": {"beta": 0.7, "kl": 0.3},
    "ipo": {"tau": 0.8},
    "oracle": {"alpha_lm": 0.35},
    "p-dpo": {"beta": 0.7, "lambda_": 0.4},
    "pmle": {"beta": 0.2},
    "pref-distill": {"beta": 0.2},
    "rebel": {"eta": 1.3},
    "reward": {},
    "rkl": {"alpha": 0.9, "beta": 0.2},
    "rlhf": {"beta": 0.4},
    "sft": {},
    "simpo": {"beta": 1.3, "target_margin": 0.4},
}


def coefficients(name: str, gamma: float, h: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    """a, α, β, λ of the general form."""
    table: dict[str, tuple[Any, Any, Any, Any]] = {
        "rlhf": (1.0, 0.0, h.get("beta"), 0.0),
        "rkl": (1 / gamma, h.get("alpha"), h.get("beta"), 0.0),
        "pmle": (0.0, 0.0, h.get("beta"), 0.0),
        "pref-distill": (0.0, 0.0, h.get("beta"), 0.0),
        "hypo": (0.0, 0.0, h.get("kl"), 0.0),
        "p-dpo": (0.0, 0.0, 0.0, h.get("lambda_")),
        "dp-dpo": (0.0, 0.0, 0.0, h.get("lambda_")),
        "e-dpo": (0.0, 0.0, 0.0, h.get("lambda_")),
    }
    return table.get(name, (0.0, 0.0, 0.0, 0.0))


def implicit(name: str, gamma: float, h: Mapping[str, float], logp: Any, log_ref: Any) -> Any:
    """The reward that the policy stands for, on which the Gaussian prior acts."""
    if name in ("pmle", "pref-distill"):
        return gamma * logp
    if name == "simpo":
        return h["beta"] * logp
    scale = {"rebel": 1 / h.get("eta", 1.0)}.get(name, h["beta"] if name.endswith("dpo") or name == "hypo" else 1.0)
    return scale * (logp - log_ref)


def value(
    name: str,
    gamma: float,
    h: Mapping[str, float],
    frequencies: np.ndarray,
    log_ref: np.ndarray,
    reward: np.ndarray,
    logp: np.ndarray | None,
    student: np.ndarray | None,
    ridge: float,
    tied: bool,
) -> float:
    """The objective of one context, pair by pair; tables of shape (V,) and (V, V)."""
    size, total, loss = len(log_ref), 0.0, LOSSES[name]
    if tied:
        assert logp is not None
        student_or_tied = gamma * logp
    else:
        student_or_tied = student
    for i in range(size):
        for j in range(size):
            if loss is None or frequencies[i, j] == 0:
                continue
            p = {"fw": log_ref[i], "fl": log_ref[j], "rw": reward[i], "rl": reward[j]}
            if logp is not None:
                p |= {"lw": logp[i], "ll": logp[j]}
            if student_or_tied is not None:
                p |= {"sw": student_or_tied[i], "sl": student_or_tied[j]}
            total += frequencies[i, j] * loss({k: float(v) for k, v in p.items()}, {**h, "gamma": gamma})
    a, alpha, beta, lam = coefficients(name, gamma, h)
    if logp is not None:
        for y in range(size):
            p_y, f_y = math.exp(logp[y]), math.exp(log_ref[y])
            total += -a * p_y * reward[y] + alpha * p_y * logp[y]
            total += beta * p_y * (logp[y] - log_ref[y]) + lam * f_y * (log_ref[y] - logp[y])
        implied = implicit(name, gamma, h, logp, log_ref)
        total += ridge / 2 * float(((implied - implied.mean()) ** 2).sum())
    if student is not None:
        total += ridge / 2 * float(((student - student.mean()) ** 2).sum())
    return total


def torch_value(
    objective: Objective,
    gamma: float,
    h: Mapping[str, float],
    frequencies: Tensor,
    log_ref: Tensor,
    reward: Tensor,
    logits: Tensor | None,
    student: Tensor | None,
    ridge: float,
    tied: bool = False,
) -> Tensor:
    """The objective of one context as a differentiable expression in the logits and the student's rewards."""
    given = {"length_chosen": torch.ones(1), "length_rejected": torch.ones(1)}

    def add(quantity: str, table: Tensor) -> None:
        given[f"{quantity}_chosen"] = table[:, None].expand(len(table), len(table))
        given[f"{quantity}_rejected"] = table[None, :].expand(len(table), len(table))

    add("ref_logp", log_ref)
    add("reward", reward)
    total = torch.zeros((), dtype=torch.float64)
    if logits is not None:
        logp = torch.log_softmax(logits, 0)
        add("logp", logp)
        a, alpha, beta, lam = coefficients(objective.name, gamma, h)
        total = total + (logp.exp() * (-a * reward + alpha * logp + beta * (logp - log_ref))).sum()
        total = total + lam * (log_ref.exp() * (log_ref - logp)).sum()
        implied = implicit(objective.name, gamma, h, logp, log_ref)
        total = total + ridge / 2 * (implied - implied.mean()).square().sum()
    if tied:
        assert logits is not None
        add("student_reward", gamma * logp)
    elif student is not None:
        add("student_reward", student)
        total = total + ridge / 2 * (student - student.mean()).square().sum()
    loss = objective.terms(Pair(**given), gamma=gamma, **h).loss
    return total if loss is None else total + (frequencies * loss).sum()

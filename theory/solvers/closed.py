"""Minimisers in closed form, chosen by which terms of the general form are non-zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from theory.objectives import Objective


def _on(coefficient: Any) -> bool:
    return bool(torch.as_tensor(coefficient).any())


def closed_kind(objective: Objective, gamma: float, hyper: dict[str, Tensor]) -> str | None:
    """Which closed form an unrestricted table has: ``on-policy``, ``bradley-terry`` or none.

    ``on-policy``: ℓ = 0 and λ = 0, so π ∝ exp((a·r + β log π_ref)/(α + β)).
    ``bradley-terry``: ℓ is the Bradley–Terry loss of an implicit reward and nothing else is
    present, so the implicit reward is the reward MLE.
    """
    terms = objective.coefficients(gamma=gamma, **hyper)
    if not objective.has_loss and (_on(terms.entropy) or _on(terms.kl)) and not _on(terms.forward_kl):
        return "on-policy"
    alone = not any(_on(c) for c in terms.coefficients.values())
    return "bradley-terry" if objective.bradley_terry and alone else None


def closed_form(
    objective: Objective,
    gamma: float,
    hyper: dict[str, Tensor],
    log_ref: Tensor,
    reward: Tensor | None,
    estimate: Tensor | None,
) -> Tensor:
    """log π of the exact minimiser.

    Args:
        hyper: each of shape (S,) or (1,).
        log_ref, reward: shape (S, X, V); ``reward`` is the fixed reward of on-policy objectives.
        estimate: the Bradley–Terry reward MLE, shape (S, X, V).

    Returns:
        Shape (S, X, V), normalised.
    """
    columns = {name: value.reshape(-1, 1, 1) for name, value in hyper.items()}
    if closed_kind(objective, gamma, hyper) == "bradley-terry":
        assert estimate is not None
        scale, offset = affine_reward(objective, gamma, columns, log_ref)
        return torch.log_softmax((estimate - offset) / scale, -1)
    terms = objective.coefficients(gamma=gamma, **columns)
    utility = terms.kl * log_ref + (0 if reward is None else terms.reward * reward)
    return torch.log_softmax(utility / (terms.entropy + terms.kl), -1)


def affine_reward(objective: Objective, gamma: float, columns: dict[str, Tensor], log_ref: Tensor) -> tuple[Tensor, Tensor]:
    """(k, b) of the objective's implicit reward k·log π + b; the log-ratio's where it states none.

    Args:
        columns: hyperparameters, broadcast against ``log_ref``.
        log_ref: shape (…, V).

    Returns:
        k of shape (…, 1) and b of shape (…, V).
    """
    rule = objective.implicit_reward
    if rule is None:
        return torch.ones_like(log_ref[..., :1]), -log_ref
    offset = rule(torch.zeros_like(log_ref), log_ref, gamma=gamma, **columns)
    unit = rule(torch.ones_like(log_ref), log_ref, gamma=gamma, **columns)
    return (unit - offset)[..., :1], offset

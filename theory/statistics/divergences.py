"""Distances between a target policy and a fitted one, exact on a table."""

from __future__ import annotations

import torch
from torch import Tensor


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p‖q) in each context, nats: Σ_y p·(eᵗ − 1 − t), t = log q/p.

    This form (unified C.2, "Schulman's trick") equals Σ p log p/q for normalised rows and keeps
    full relative precision when the two are nearly equal, because no term is negative.

    Args:
        log_p, log_q: log-probabilities, shape (…, V).

    Returns:
        Shape (…).
    """
    t = log_q - log_p
    p = log_p.exp()
    near = p * (torch.expm1(t.clamp_max(1.0)) - t)
    # p·(eᵗ − 1) is q − p, also where p is 0 in float64 and eᵗ is infinite.
    far = log_q.exp() - p - torch.where(p > 0, p * t, 0.0)
    return torch.where(t > 1, far, near).sum(-1)


def total_variation(log_p: Tensor, log_q: Tensor) -> Tensor:
    """½ Σ_y |p − q| in each context; inputs (…, V), result (…)."""
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def forward_kl(log_target: Tensor, log_policy: Tensor, context_weights: Tensor) -> Tensor:
    """Σ_x ρ_x KL(π*‖π), nats; inputs (…, X, V) and (X,), result (…). Source: unified Thm 4."""
    return (kl(log_target, log_policy) * context_weights).sum(-1)


def reverse_kl(log_target: Tensor, log_policy: Tensor, context_weights: Tensor) -> Tensor:
    """Σ_x ρ_x KL(π‖π*), nats; shapes as `forward_kl`. Source: unified eq. 14."""
    return (kl(log_policy, log_target) * context_weights).sum(-1)

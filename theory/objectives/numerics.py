"""Elementwise functions that stay exact at extreme log-probabilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log1mexp(a: Tensor) -> Tensor:
    """log(1 − eᵃ) for a ≤ 0, elementwise; −inf at a = 0 and log(1) = 0 at a = −inf.

    Uses expm1 for a > −log 2 and log1p otherwise (Mächler 2012), so neither the value nor the
    gradient loses digits at either end. Any shape; nats.
    """
    near_zero = a > -math.log(2)
    # Each branch is fed a harmless value where it is not chosen, so that its gradient is finite.
    small = torch.where(near_zero, a, torch.full_like(a, -0.5))
    large = torch.where(near_zero, torch.full_like(a, -1.0), a)
    return torch.where(near_zero, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))

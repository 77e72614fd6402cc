"""The policy functionals of the general form, estimated on samples.

A language model cannot sum over responses, so −a·E_π[r] − α·H(π) + β·KL(π‖π_ref) needs samples of
the policy and λ·KL(π_ref‖π) samples of the reference.
"""

from __future__ import annotations

from torch import Tensor


def reverse_kl_of_samples(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """KL(π‖π_ref) with the gradient of its expectation, from samples of π, nats.

    Value: the mean of d = log π − log π_ref. Gradient: E_π[d·∇log π] by the score function with the
    mean of the other samples as baseline, which leaves it unbiased (the ∇d term has mean zero).

    Args:
        logps: log π of the samples, shape (S,), with a gradient.
        ref_logps: log π_ref of them, shape (S,).

    Source: Song et al. 2024 (the online KL of HyPO, used by unified D.2 for PMLE); RLOO's baseline.
    """
    gap = (logps - ref_logps).detach()
    size = len(gap)
    baseline = (gap.sum() - gap) / (size - 1) if size > 1 else gap.new_zeros(size)
    surrogate = ((gap - baseline) * logps).mean()
    return surrogate - surrogate.detach() + gap.mean()


def reverse_kl_of_data(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """KL(π‖π_ref) = E_ref[w log w], w = π/π_ref, from responses drawn from π_ref, nats.

    Unbiased where the data's responses come from the reference; its variance grows with w.

    Args:
        logps, ref_logps: of the data's responses, any shape.
    """
    ratio = logps - ref_logps
    return (ratio.exp() * ratio).mean()


def forward_kl_of_data(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """KL(π_ref‖π) = E_ref[log π_ref − log π], from responses drawn from π_ref, nats.

    Unbiased where the data's responses come from the reference (as in Fisch et al. 2025).
    """
    return (ref_logps - logps).mean()

"""The statistical limit: the asymptotic constant of the forward KL and the Cramér–Rao line."""

from __future__ import annotations

import math

import numpy as np

from theory.errors import UserError
from theory.instances.tabular import Array, Instance

# tr(I⁺S) needs a V×V pseudo-inverse a context.
LARGEST_VOCAB = 2_000


def information(instance: Instance) -> Array:
    """Fisher information of one comparison in each context's logits, shape (X, V, V).

    I_x = γ² Σ_{i<j} 2μ_iμ_j σ'(γΔ_ij)(e_i − e_j)(e_i − e_j)ᵀ, a graph Laplacian.
    Source: ours (math of unified §2's preference model).
    """
    mu, win = instance.data_policy, instance.win_probability()
    off = instance.gamma**2 * 2 * mu[:, :, None] * mu[:, None, :] * win * (1 - win)
    diagonal = np.arange(instance.vocab)
    off[:, diagonal, diagonal] = 0
    laplacian = -off
    laplacian[:, diagonal, diagonal] = off.sum(-1)
    return laplacian


def asymptotic_constant(instance: Instance) -> float:
    """c with n·E[KL(π*‖π̂)] → c for an efficient estimator: ½ Σ_x tr(I_x⁺ S_x), nats.

    S_x = diag(π*) − π*π*ᵀ. The context weights cancel. c/n is the Cramér–Rao limit of the forward
    KL on an unrestricted table. Source: ours.

    Raises:
        UserError: V above 2,000.
    """
    if instance.vocab > LARGEST_VOCAB:
        raise UserError("--vocab", instance.vocab, f"the Cramér–Rao constant is computed up to V = {LARGEST_VOCAB}")
    # Adding the projector on constants makes the Laplacian invertible without touching tr(I⁺S).
    size = instance.vocab
    laplacian = information(instance)
    scale = np.trace(laplacian, axis1=1, axis2=2)[:, None, None] / size
    inverse = np.linalg.inv(laplacian + scale / size)
    target = instance.target
    covariance = np.einsum("xv,vu->xvu", target, np.eye(size)) - target[:, :, None] * target[:, None, :]
    return float(np.einsum("xij,xji->", inverse, covariance)) / 2


def efficiency(constant: float, n: float, forward_kl: float) -> float:
    """c/(n·KL): 1 for an efficient estimator, 0 for one that stops at a floor (n = ∞ gives NaN)."""
    if math.isinf(n) or forward_kl <= 0:
        return math.nan
    return constant / (n * forward_kl)

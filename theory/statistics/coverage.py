"""The generalised coverage coefficient (unified Definition 3)."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from theory.instances.tabular import Array, Instance


def _centred_moment(f: Array, policy: Array, data_policy: Array, weights: Array) -> Array:
    """E_{x~ρ, y~policy}[f̄ f̄ᵀ], f̄ = f − E_{y~μ}[f|x]; f of shape (X, V, d), result (d, d)."""
    centred = f - np.einsum("xv,xvd->xd", data_policy, f)[:, None, :]
    # What is left of a feature that is constant in every context is rounding.
    centred[..., np.abs(centred).max((0, 1)) <= 1e-12 * np.abs(f).max((0, 1))] = 0.0
    return np.einsum("x,xv,xvd,xve->de", weights, policy, centred, centred)


def _largest_ratio(numerator: Array, denominator: Array) -> float:
    """max_w wᵀAw / wᵀBw over the range of B (directions that both moments ignore are left out)."""
    # Rescaled to a unit diagonal, a response that μ hardly ever draws is told apart from a direction never seen.
    diagonal = denominator.diagonal()
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(scale[:, None] * denominator * scale)
    seen = values > values.max() * 1e-12
    basis = scale[:, None] * vectors[:, seen] / np.sqrt(values[seen])
    return float(eigh(basis.T @ numerator @ basis, eigvals_only=True)[-1])


def coverage_log_linear(instance: Instance, features: Array) -> float:
    """C_Π = sup over f = φ·w of E_{π*}[f̄²]/E_μ[f̄²], f̄ centred under μ: a generalised eigenvalue.

    Args:
        features: φ, shape (X, V, d), shared by all contexts. The differences of two log-linear
            policies' rewards are of this form.

    Source: unified Definition 3 (its formula is lost in the text; restored).
    """
    moments = [
        _centred_moment(features, policy, instance.data_policy, instance.context_weights)
        for policy in (instance.target, instance.data_policy)
    ]
    return _largest_ratio(*moments)


def coverage_table(instance: Instance) -> float:
    """C_Π of the unrestricted table: the largest of the contexts' coefficients (Definition 3)."""
    eye = np.eye(instance.vocab)[None]
    one = np.ones(1)
    ratios = []
    for target, data in zip(instance.target, instance.data_policy, strict=True):
        numerator, denominator = (_centred_moment(eye, p[None], data[None], one) for p in (target, data))
        ratios.append(_largest_ratio(numerator, denominator))
    return max(ratios)


def coverage_finite(instance: Instance, policies: Array) -> float:
    """C_Π of a finite class: the largest ratio over its members other than π* (Definition 3).

    Args:
        policies: probabilities, shape (K, X, V); a member equal to π* is skipped.
    """
    ratios = []
    for policy in policies:
        f = instance.gamma * (np.log(policy) - np.log(instance.target))
        numerator, denominator = (
            float(_centred_moment(f[..., None], p, instance.data_policy, instance.context_weights)[0, 0])
            for p in (instance.target, instance.data_policy)
        )
        if denominator > 0:
            ratios.append(numerator / denominator)
    return max(ratios) if ratios else float("nan")

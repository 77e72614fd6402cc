"""A tabular instance: everything that the simulator needs to know about the world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from theory.errors import UserError

Array = NDArray[np.float64]
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Instance:
    """Contexts x ~ ρ, responses y ∈ {1..V}, target π*, reference π_ref, data policy μ, and γ.

    Preferences follow P(y ≻ y'|x) = σ(γ(log π*(y|x) − log π*(y'|x))) (unified eq. 2–3).

    Attributes:
        target, reference, data_policy: rows of probabilities, shape (X, V); μ defaults to π_ref.
        context_weights: ρ, shape (X,); uniform by default.
        gamma: γ > 0.
        features: φ(x, y) of a log-linear class, shape (X, V, d), d < V; None without one.
        name: where it came from, for people.

    Raises:
        UserError: shapes disagree, a row does not sum to 1 within 1e-9, a probability is not
            positive and finite, V < 2, or γ ≤ 0.
    """

    target: Array
    reference: Array
    data_policy: Array = None  # type: ignore[assignment]
    context_weights: Array = None  # type: ignore[assignment]
    gamma: float = 1.0
    features: Array | None = None
    name: str = "instance"

    def __post_init__(self) -> None:
        target = _rows("target", self.target)
        contexts = target.shape[0]
        data_policy = self.reference if self.data_policy is None else self.data_policy
        weights = np.full(contexts, 1 / contexts) if self.context_weights is None else self.context_weights
        checked = {
            "target": target,
            "reference": _rows("reference", self.reference, target.shape),
            "data_policy": _rows("data_policy", data_policy, target.shape),
            "context_weights": _rows("context_weights", np.atleast_2d(weights), (1, contexts))[0],
            "gamma": _gamma(self.gamma),
            "features": None if self.features is None else _features(self.features, target.shape),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def contexts(self) -> int:
        """X, the number of contexts."""
        return self.target.shape[0]

    @property
    def vocab(self) -> int:
        """V, the number of responses in each context."""
        return self.target.shape[1]

    def reward(self) -> Array:
        """r* = γ log π*, the reward that the target induces; shape (X, V), nats."""
        return self.gamma * np.log(self.target)

    def win_probability(self) -> Array:
        """P(y ≻ y'|x), shape (X, V, V), row y beats column y'."""
        return expit(self.reward()[:, :, None] - self.reward()[:, None, :])

    def with_features(self, features: Array) -> Instance:
        """The same instance with a log-linear class of the given features."""
        return replace(self, features=features)


def expit(x: Array) -> Array:
    """σ(x) = 1/(1 + e^{−x}), exact in both tails."""
    from scipy.special import expit as scipy_expit

    return scipy_expit(x)


def _rows(name: str, values: object, shape: tuple[int, ...] | None = None) -> Array:
    """Rows of positive probabilities, or a `UserError` that names the row."""
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(name, None, "must be an array of numbers") from error
    if rows.ndim != 2 or (shape is not None and rows.shape != shape):
        raise UserError(name, f"has shape {rows.shape}", f"must have shape {shape or '(contexts, responses)'}")
    if shape is None and (rows.shape[1] < 2 or rows.shape[0] < 1):
        raise UserError(name, f"has shape {rows.shape}", "needs at least one context and two responses (V ≥ 2)")
    bad = ~(np.isfinite(rows) & (rows > 0))
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise UserError(f"{name}[{row}, {column}]", rows[row, column], "every probability must be positive and finite")
    gap = np.abs(rows.sum(1) - 1)
    if (gap > TOLERANCE).any():
        row = int(gap.argmax())
        raise UserError(f"{name}[{row}]", f"sums to {rows[row].sum():.12g}", "every row must sum to 1 within 1e-9")
    return rows


def _gamma(value: object) -> float:
    try:
        gamma = float(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise UserError("gamma", value, "must be one number") from error
    if not (np.isfinite(gamma) and gamma > 0):
        raise UserError("gamma", gamma, "must be positive and finite")
    return gamma


def _features(values: object, shape: tuple[int, ...]) -> Array:
    try:
        features = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError("features", None, "must be an array of numbers") from error
    if features.ndim != 3 or features.shape[:2] != shape or not 1 <= features.shape[2] < shape[1]:
        raise UserError("features", f"have shape {features.shape}", f"must have shape {shape} + (d,) with 1 ≤ d < V")
    if not np.isfinite(features).all():
        raise UserError("features", None, "must be finite")
    return features

"""Existence in a log-linear class: whether the comparisons can be separated, by linear programming."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from theory.instances.tabular import Array


def separable(differences: Array) -> bool:
    """Whether some d has Δφ·d ≥ 0 for every comparison and > 0 for at least one.

    Exactly then a Bradley–Terry fit of the rewards φ·w has no finite minimiser: along d the loss
    falls and never rises. Solves max Σ z subject to 0 ≤ z ≤ 1 and z ≤ Δφ·d, which is 0 or at
    least 1 because d may be scaled.

    Args:
        differences: φ(x, chosen) − φ(x, rejected) of every distinct comparison, shape (E, d).

    Source: Albert and Anderson 1984, for logistic regression.
    """
    rows = np.unique(differences[np.abs(differences).max(1) > 0], axis=0) if len(differences) else differences
    if len(rows) == 0:
        return False
    count, size = rows.shape
    cost = np.concatenate([np.zeros(size), -np.ones(count)])
    constraint = np.hstack([-rows / np.abs(rows).max(1, keepdims=True), np.eye(count)])
    bounds = [(None, None)] * size + [(0, 1)] * count
    found = linprog(cost, A_ub=constraint, b_ub=np.zeros(count), bounds=bounds)
    if found.x is None:  # zero is always feasible and the objective is bounded
        raise RuntimeError(f"linear program failed: {found.message}")
    return bool(found.x[size:].sum() > 0.5)

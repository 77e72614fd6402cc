"""Linear separability against a brute force over directions on a fine circle (d = 2)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from theory.solvers.separation import separable


def by_enumeration(differences: np.ndarray) -> bool:
    """Every cone of directions is bounded by normals of the data, so those and the gaps between decide."""
    angles = np.arctan2(differences[:, 1], differences[:, 0])
    edges = np.sort(np.unique(np.round(np.concatenate([angles + np.pi / 2, angles - np.pi / 2]) % (2 * np.pi), 12)))
    middles = (edges + np.roll(edges, -1)) / 2 + np.where(np.roll(edges, -1) < edges, np.pi, 0)
    for angle in np.concatenate([edges, middles]):
        margins = differences @ np.array([np.cos(angle), np.sin(angle)])
        margins[np.abs(margins) < 1e-9] = 0
        if (margins >= 0).all() and (margins > 0).any():
            return True
    return False


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(-3, 3).map(float)))
def test_agrees_with_enumeration_in_the_plane(differences):
    kept = differences[np.abs(differences).max(1) > 0]
    assert separable(differences) == (by_enumeration(kept) if len(kept) else False)


def test_a_comparison_and_its_reverse_cannot_be_separated():
    assert not separable(np.array([[1.0, 2.0], [-1.0, -2.0]]))
    assert separable(np.array([[1.0, 2.0]]))
    assert not separable(np.empty((0, 3)))

"""That φ(u) = (eᵘ − 1 − u)/u² and g(t) = (teᵗ − eᵗ + 1)/(eᵗ − 1 − t), the functions behind the KL inequalities, increase.

Source: unified C.1, Lemmas 9 and 10 and Proposition 15 (formulas lost in the text, restored).
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial
from typing import Any

import sympy as sp
from mpmath import mp

from paper_checks.unified.intervals import Cover, positive, power_series

# Digits that survive the cancellation in eᵗ − 1 − t at small t, and terms of a series on [−2, 2].
DIGITS, TERMS = 60, 40


def ratio(t: float) -> float:
    """g(t) = (teᵗ − eᵗ + 1)/(eᵗ − 1 − t), g(0) = 1."""
    if t == 0:
        return 1.0
    with mp.workdps(DIGITS):
        x = mp.mpf(t)
        return float((x * mp.exp(x) - mp.exp(x) + 1) / (mp.exp(x) - 1 - x))


def moment_form(weight: Any, closed: Any, s: Any, u: Any) -> bool:
    """Whether ∫₀¹ weight(s)·e^{su} ds is ``closed``, symbolically; then weight ≥ 0 makes it positive."""
    return bool(sp.simplify(sp.integrate(weight * sp.exp(s * u), (s, 0, 1)) - closed) == 0)


def phi_increases() -> dict[str, bool]:
    """φ(u) = ∫₀¹ (1 − s)e^{su} ds, so that φ'(u) = ∫₀¹ s(1 − s)e^{su} ds > 0 at every real u."""
    s = sp.Symbol("s", nonnegative=True)
    u = sp.Symbol("u", nonzero=True, real=True)
    integrand = (1 - s) * sp.exp(s * u)
    slope_weight = sp.simplify(sp.diff(integrand, u) / sp.exp(s * u))
    return {
        "integral_form": moment_form(1 - s, (sp.exp(u) - 1 - u) / u**2, s, u),
        "slope_is_an_integral_of_a_positive_function": bool(sp.solveset(slope_weight <= 0, s, sp.Interval.open(0, 1)).is_empty),
    }


def phi_slope_cover(half_width: float = 2.0) -> Cover:
    """Interval proof of φ' > 0 on [−w, w] from φ'(u) = Σ_k (k+1)/(k+3)!·uᵏ.

    Beyond 2 the sign is plain: φ'(u) = ((u − 2)eᵘ + u + 2)/u³, and both terms have the sign of u.
    """
    coefficients = [Fraction(k + 1, factorial(k + 3)) for k in range(TERMS)]
    # From k = TERMS on, each term is less than half the one before, so that twice the first is a bound.
    tail = 2 * (TERMS + 1) * half_width**TERMS / factorial(TERMS + 3)
    return positive(power_series(coefficients, tail), -half_width, half_width)


def ratio_increases() -> dict[str, bool]:
    """g' = eᵗ·(4 sinh²(t/2) − t²)/(eᵗ − 1 − t)² ≥ 0, zero nowhere but in the limit t → 0."""
    t = sp.Symbol("t", real=True)
    above, below = t * sp.exp(t) - sp.exp(t) + 1, sp.exp(t) - 1 - t
    slope = sp.diff(above, t) * below - above * sp.diff(below, t)
    gap = 4 * sp.sinh(t / 2) ** 2 - t**2
    curvature = sp.diff(gap, t, 2)
    return {
        "slope_form": _same(slope, sp.exp(t) * gap),
        # With value and slope 0 at t = 0 and a curvature that is a square, the gap is positive elsewhere.
        "gap_starts_flat": gap.subs(t, 0) == 0 and sp.diff(gap, t).subs(t, 0) == 0,
        "gap_is_convex": _same(curvature, 4 * sp.sinh(t / 2) ** 2),
        "limit_at_0_is_1": sp.limit(above / below, t, 0) == 1,
        "reciprocal": _same(above * above.subs(t, -t), below * below.subs(t, -t)),
    }


def _same(left: Any, right: Any) -> bool:
    return bool(sp.simplify(sp.expand((left - right).rewrite(sp.exp))) == 0)

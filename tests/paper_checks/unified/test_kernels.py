import math

import pytest
import sympy as sp
from mpmath import iv
from scipy.integrate import quad

from paper_checks.unified import kernels
from paper_checks.unified.intervals import positive


@pytest.mark.parametrize("t", [-30.0, -2.0, -1e-3, 1e-6, 0.5, 20.0])
def test_ratio_is_that_of_the_two_moments(t):
    # Scaled by e^{−max(t, 0)}, so that neither integral overflows.
    top, bottom = (quad(lambda s, w=w: w(s) * math.exp(s * t - max(t, 0)), 0, 1)[0] for w in (lambda s: s, lambda s: 1 - s))
    assert kernels.ratio(t) == pytest.approx(top / bottom, rel=1e-9)


def test_ratio_at_zero_is_its_limit():
    assert kernels.ratio(0) == 1
    assert kernels.ratio(1e-9) == pytest.approx(1, abs=1e-8)


def test_moment_form_refuses_another_weight():
    s, u = sp.Symbol("s", nonnegative=True), sp.Symbol("u", nonzero=True, real=True)
    closed = (sp.exp(u) - 1 - u) / u**2
    assert kernels.moment_form(1 - s, closed, s, u)
    assert not kernels.moment_form((1 - s) ** 2, closed, s, u)


def test_series_of_the_slope_agrees_with_differences():
    seen = {}

    def spy(function, low, high):
        seen["function"] = function
        return positive(function, low, high)

    kernels.positive, original = spy, kernels.positive
    try:
        cover = kernels.phi_slope_cover()
    finally:
        kernels.positive = original
    assert cover.proved

    def slope(u):
        return quad(lambda s: s * (1 - s) * math.exp(s * u), 0, 1)[0]

    for u in (-2.0, -0.5, 0.0, 1.3, 2.0):
        value = seen["function"](iv.mpf(u))
        assert float(value.a) <= slope(u) + 1e-15
        assert float(value.b) >= slope(u) - 1e-15
    assert cover.least <= slope(-2.0)  # φ' increases, so that its least value is at the left end


def test_proofs_of_monotony():
    assert all(kernels.phi_increases().values())
    assert all(kernels.ratio_increases().values())

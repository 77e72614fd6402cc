"""Divergences against scipy.special.rel_entr, and where that sum loses its digits, against mpmath."""

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from theory.statistics import divergences


def _pair(seed: int, shape=(5, 3, 7), concentration: float = 1.0):
    rng = np.random.default_rng(seed)
    return (rng.dirichlet(np.full(shape[-1], concentration), shape[:-1]) for _ in range(2))


@pytest.mark.parametrize("concentration", [0.3, 1.0, 50.0])
def test_equal_rel_entr_sums(concentration):
    p, q = _pair(0, concentration=concentration)
    weights = np.random.default_rng(1).dirichlet(np.ones(3))
    log_p, log_q = torch.from_numpy(np.log(p)), torch.from_numpy(np.log(q))
    expected = rel_entr(p, q).sum(-1)
    np.testing.assert_allclose(divergences.kl(log_p, log_q), expected, rtol=1e-11, atol=1e-14)
    found = divergences.forward_kl(log_p, log_q, torch.from_numpy(weights))
    np.testing.assert_allclose(found, expected @ weights, rtol=1e-11)
    reverse = divergences.reverse_kl(log_p, log_q, torch.from_numpy(weights))
    np.testing.assert_allclose(reverse, rel_entr(q, p).sum(-1) @ weights, rtol=1e-11)
    np.testing.assert_allclose(divergences.total_variation(log_p, log_q), np.abs(p - q).sum(-1) / 2, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_nearly_equal_rows_keep_their_digits(size):
    """Σ p log p/q cancels to nothing at KL ~ 1e-18; the sum of non-negative terms does not."""
    rng = np.random.default_rng(3)
    logits, move = rng.standard_normal(6), size * rng.standard_normal(6)
    with mpmath.workdps(60):
        a, b = [mpmath.mpf(z) for z in logits], [mpmath.mpf(z) + mpmath.mpf(m) for z, m in zip(logits, move, strict=True)]
        norms = [mpmath.log(mpmath.fsum(map(mpmath.exp, z))) for z in (a, b)]
        log_p, log_q = ([z - norm for z in row] for row, norm in zip((a, b), norms, strict=True))
        exact = float(mpmath.fsum(mpmath.exp(x) * (x - y) for x, y in zip(log_p, log_q, strict=True)))
        tables = [torch.tensor([float(x) for x in row], dtype=torch.float64) for row in (log_p, log_q)]
    # The tables themselves are rounded at 1e-16, which moves t = log q/p by that much.
    found = divergences.kl(*tables).item()
    assert found == pytest.approx(exact, rel=4e-16 / size * 4 + 1e-12)
    assert found >= 0


def test_zero_between_equal_rows_and_infinite_where_mass_is_lost():
    log_p = torch.log_softmax(torch.arange(4.0, dtype=torch.float64), 0)
    assert divergences.kl(log_p, log_p).item() == 0
    lost = torch.tensor([0.0, -800.0], dtype=torch.float64)
    half = torch.full((2,), 0.5, dtype=torch.float64).log()
    assert divergences.kl(half, lost).item() == pytest.approx(400 + np.log(0.5), rel=1e-12)
    assert divergences.kl(lost, half).item() == pytest.approx(np.log(2), rel=1e-12)
    gone = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
    assert divergences.kl(gone, half).item() == pytest.approx(np.log(2), rel=1e-12)
    assert divergences.kl(half, gone).item() == np.inf

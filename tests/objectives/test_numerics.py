"""log(1 − eᵃ) from the smallest to the largest magnitudes, and every objective at such log-probabilities."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from theory.objectives import Pair, get, names
from theory.objectives.numerics import log1mexp

from . import twins

WITH_LOSS = [name for name in names() if name not in twins.LOSSLESS]
MAGNITUDES = [
    1e-300,
    1e-200,
    1e-30,
    1e-16,
    1e-8,
    1e-3,
    0.1,
    0.69,
    math.log(2),
    0.7,
    1.0,
    5.0,
    36.0,
    40.0,
    100.0,
    700.0,
    740.0,
    1e4,
]


def exact(a: float) -> mpf:
    # 1 − e^(−1e-300) needs 300 digits, e^(−1e4) none that float64 could hold.
    with mp.workdps(700):
        return mp.log(1 - mp.exp(mpf(a)))


def slope(a: float) -> mpf:
    with mp.workdps(700):
        return 1 / (1 - mp.exp(-mpf(a)))


class TestLog1mexp:
    @pytest.mark.parametrize("magnitude", MAGNITUDES)
    def test_value(self, magnitude: float) -> None:
        got = log1mexp(torch.tensor(-magnitude, dtype=torch.float64)).item()
        assert got == pytest.approx(float(exact(-magnitude)), rel=4e-16, abs=1e-323)

    @pytest.mark.parametrize("magnitude", MAGNITUDES)
    def test_gradient(self, magnitude: float) -> None:
        a = torch.tensor(-magnitude, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(log1mexp(a), a)
        # d/da log(1 − eᵃ) = −eᵃ/(1 − eᵃ) = 1/(1 − e⁻ᵃ).
        assert math.isfinite(gradient.item())
        assert gradient.item() == pytest.approx(float(slope(-magnitude)), rel=1e-15, abs=1e-323)

    @given(st.floats(-300, 4))
    def test_any_magnitude(self, exponent: float) -> None:
        a = torch.tensor(-(10.0**exponent), dtype=torch.float64, requires_grad=True)
        value = log1mexp(a)
        (gradient,) = torch.autograd.grad(value, a)
        assert value.item() == pytest.approx(float(exact(a.item())), rel=4e-16, abs=1e-323)
        assert gradient.item() == pytest.approx(float(slope(a.item())), rel=1e-15, abs=1e-323)

    @pytest.mark.parametrize("magnitude", [1e-30, 1e-6, 0.5, 0.69, 0.7, 3.0, 20.0, 80.0])
    def test_float32(self, magnitude: float) -> None:
        a = torch.tensor(-magnitude, dtype=torch.float32)
        assert log1mexp(a).dtype == torch.float32
        assert log1mexp(a).item() == pytest.approx(float(exact(a.item())), rel=3e-7)

    def test_ends(self) -> None:
        ends = torch.tensor([0.0, -0.0, -math.inf], dtype=torch.float64)
        assert log1mexp(ends).tolist() == [-math.inf, -math.inf, 0.0]

    def test_gradient_of_one_entry_is_untouched_by_its_neighbours(self) -> None:
        # The branch not taken would be 0·∞ at both ends.
        a = torch.tensor([-math.inf, -1e4, -1.0, -1e-300], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(log1mexp(a).sum(), a)
        assert gradient.tolist() == pytest.approx([0.0, 0.0, float(slope(-1.0)), -1e300], rel=1e-15)

    def test_twice_differentiable(self) -> None:
        a = torch.tensor([-0.01, -0.3, -0.69, -0.7, -4.0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(log1mexp, a)

    def test_is_an_involution(self) -> None:
        a = -torch.logspace(-5, 1, 40, dtype=torch.float64)
        torch.testing.assert_close(log1mexp(log1mexp(a)), a, rtol=1e-11, atol=0)


def differentiate(name: str, pair: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradient in what is trained, at the default hyperparameters."""
    trained = {n: pair[n].clone().requires_grad_() for n in twins.TRAINED if n in get(name).inputs}
    loss = get(name).terms(Pair(**{**pair, **trained})).loss
    return loss.detach(), dict(zip(trained, torch.autograd.grad(loss.sum(), list(trained.values())), strict=True))


def sequences(seed: int = 3, size: int = 200) -> dict[str, torch.Tensor]:
    """Log-probabilities of about −1000 on a grid of 1/8, rewards on a grid of 1/1024: exact in float32."""
    generator = torch.Generator().manual_seed(seed)

    def grid(span: float, step: float) -> torch.Tensor:
        count = int(span / step)
        return step * torch.randint(-count, count + 1, (size,), generator=generator).double()

    pair = {name: -1000 + grid(6, 1 / 8) if "logp" in name else grid(3, 1 / 1024) for name in twins.FIELDS}
    return {**pair, **{n: 200 + grid(20, 1) for n in pair if "length" in n}}


class TestSequenceScale:
    @pytest.mark.parametrize("name", WITH_LOSS)
    def test_float32_agrees_with_float64(self, name: str) -> None:
        pair = sequences()
        single = {n: t.float() for n, t in pair.items()}
        assert all(torch.equal(single[n].double(), t) for n, t in pair.items())
        loss, gradient = differentiate(name, pair)
        single_loss, single_gradient = differentiate(name, single)
        assert single_loss.dtype == torch.float32
        torch.testing.assert_close(single_loss.double(), loss, rtol=1e-5, atol=1e-6)
        for n, expected in gradient.items():
            torch.testing.assert_close(single_gradient[n].double(), expected, rtol=1e-5, atol=1e-6)
            assert single_gradient[n].isfinite().all()

    @pytest.mark.parametrize("name", ["pmle", "pref-distill"])
    def test_float32_with_a_gamma_that_rounds(self, name: str) -> None:
        # γ·1000 is rounded to one part in 2²⁴, as log π itself is: 2·|γ·1000|·2⁻²⁴ nats in the margin.
        pair = sequences()
        loss = get(name).terms(Pair(**pair), gamma=0.7).loss
        single = get(name).terms(Pair(**{n: t.float() for n, t in pair.items()}), gamma=0.7).loss
        torch.testing.assert_close(single.double(), loss, rtol=1e-6, atol=3 * 700 * 2**-24)

    def test_drdo_is_focal_weighted_sft(self) -> None:
        # log(1 − e^−1000) is zero in any floating point: −α(1 − p_w)^γf log π(y_w) remains.
        zero = torch.zeros(1)
        rewards = {n: zero for n in twins.FIELDS if "reward" in n}
        pair = Pair(logp_chosen=torch.tensor([-1000.0]), logp_rejected=torch.tensor([-1000.0]), **rewards)
        assert get("drdo").terms(pair, alpha=0.1, gamma_f=2.0).loss.item() == pytest.approx(0.1 * 0.25 * 1000, rel=1e-6)


EXTREMES = [-1e4, -1.0, -1e-300, -0.0]


def extremes(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Every combination of extreme log-probabilities of both policies, and of extreme rewards."""
    logps = [n for n in twins.FIELDS if "logp" in n]
    rows = list(itertools.product(*[EXTREMES] * len(logps), [-1e4, 0.5, 1e4]))
    columns = torch.tensor(rows, dtype=dtype).unbind(-1)
    ones = torch.ones(len(rows), dtype=dtype)
    pair = dict(zip(logps, columns, strict=False))
    pair |= {"reward_chosen": columns[-1], "reward_rejected": 0 * ones}
    pair |= {"student_reward_chosen": 0.25 * ones, "student_reward_rejected": -columns[-1]}
    return {**pair, "length_chosen": ones, "length_rejected": 7 * ones}


class TestExtremes:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("name", [n for n in WITH_LOSS if n != "drdo"])
    def test_finite(self, name: str, dtype: torch.dtype) -> None:
        loss, gradient = differentiate(name, extremes(dtype))
        assert loss.isfinite().all()
        assert gradient
        assert all(g.isfinite().all() for g in gradient.values())

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_drdo_diverges_where_the_rejected_response_is_certain_and_only_there(self, dtype: torch.dtype) -> None:
        # π(y_l) = 1: log(1 − π(y_l)) = −∞, so −(1−p_w)^γf·(log π(y_w) + ∞) = −∞ at any finite log π(y_w).
        pair = extremes(dtype)
        certain = pair["logp_rejected"] == 0  # −1e-300 is one of them in float32
        assert certain.any()
        loss, _ = differentiate("drdo", pair)
        assert torch.equal(loss == -math.inf, certain)
        assert loss[~certain].isfinite().all()
        _, gradient = differentiate("drdo", {n: t[~certain] for n, t in pair.items()})
        assert all(g.isfinite().all() for g in gradient.values())

    @pytest.mark.parametrize("name", WITH_LOSS)
    def test_values(self, name: str) -> None:
        # The twins work in probabilities, so that 1000 nats cost 434 digits twice over.
        pair = extremes(torch.float64)
        keep = torch.arange(0, len(pair["logp_chosen"]), 11)
        pair = {n: t[keep] for n, t in pair.items()}
        pair = {n: t.clamp(min=-1e3, max=-(2**-20) if "logp" in n else 1e3) for n, t in pair.items()}
        loss, _ = differentiate(name, pair)
        hyper = {p.name: p.default for p in get(name).hyperparameters}
        want = [float(twins.loss(name, row, hyper, 1.0, digits=1000)) for row in twins.rows(pair)]
        assert loss.tolist() == pytest.approx(want, rel=1e-11, abs=1e-300)

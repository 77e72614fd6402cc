"""First and second derivatives: by differences of the twins, by gradcheck, and as derived by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from theory.objectives import Pair, get, names
from theory.objectives.drdo import focal_log_odds

from . import twins

WITH_LOSS = [name for name in names() if name not in twins.LOSSLESS]
# A policy of its own, and one that has moved far from the reference.
SCALES = pytest.mark.parametrize("scale", [0.4, 4.0, 40.0])


def trained(name: str, pair: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of the pairs and the inputs that it is differentiated in."""
    inputs = {n: pair[n].clone().requires_grad_() for n in twins.TRAINED if n in get(name).inputs}
    return get(name).terms(Pair(**{**pair, **inputs}), gamma=twins.GAMMA, **twins.HYPER[name]).loss, inputs


@SCALES
@pytest.mark.parametrize("name", WITH_LOSS)
def test_gradient(name: str, scale: float) -> None:
    pair = twins.draw(seed=5, size=4, scale=scale)
    loss, inputs = trained(name, pair)
    got = torch.autograd.grad(loss.sum(), list(inputs.values()))
    for field, gradient in zip(inputs, got, strict=True):
        want = [float(twins.derivative(name, row, twins.HYPER[name], twins.GAMMA, field)) for row in twins.rows(pair)]
        assert gradient.tolist() == pytest.approx(want, rel=1e-10, abs=1e-14)


@SCALES
@pytest.mark.parametrize("name", WITH_LOSS)
def test_hessian(name: str, scale: float) -> None:
    pair = twins.draw(seed=6, size=3, scale=scale)
    loss, inputs = trained(name, pair)
    firsts = torch.autograd.grad(loss.sum(), list(inputs.values()), create_graph=True)
    for (a, first), b in itertools.product(zip(inputs, firsts, strict=True), inputs):
        got = torch.zeros(3, dtype=torch.float64)
        if first.requires_grad:
            second = torch.autograd.grad(first.sum(), inputs[b], retain_graph=True, allow_unused=True)[0]
            got = got if second is None else second
        want = [float(twins.derivative(name, row, twins.HYPER[name], twins.GAMMA, a, b)) for row in twins.rows(pair)]
        assert got.tolist() == pytest.approx(want, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("name", WITH_LOSS)
def test_gradcheck(name: str) -> None:
    inputs = sorted(get(name).inputs)
    values = tuple(twins.draw(seed=7, size=5, scale=1.5)[n].requires_grad_() for n in inputs)

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return get(name).terms(Pair(**dict(zip(inputs, tensors, strict=True))), gamma=twins.GAMMA, **twins.HYPER[name]).loss

    assert torch.autograd.gradcheck(loss, values)
    if name != "sft":  # linear
        assert torch.autograd.gradgradcheck(loss, values)


class TestByHand:
    @pytest.mark.parametrize("margin", [-30.0, -2.0, 0.0, 0.7, 25.0])
    def test_dpo(self, margin: float) -> None:
        # ∂/∂log π(y_w) = −β σ(−β·margin), and the opposite for y_l; ∂² = β² σ(x)σ(−x).
        beta = 0.3
        logp = torch.tensor([margin - 4, -4.0], dtype=torch.float64, requires_grad=True)
        ref = torch.tensor(-2.0, dtype=torch.float64)
        pair = Pair(logp_chosen=logp[0], logp_rejected=logp[1], ref_logp_chosen=ref, ref_logp_rejected=ref)
        (first,) = torch.autograd.grad(get("dpo").terms(pair, beta=beta).loss, logp, create_graph=True)
        (second,) = torch.autograd.grad(first[0], logp)
        pull = 1 / (1 + math.exp(beta * margin))
        assert first.tolist() == pytest.approx([-beta * pull, beta * pull], rel=1e-13)
        assert second.tolist() == pytest.approx([beta**2 * pull * (1 - pull), -(beta**2) * pull * (1 - pull)], rel=1e-9)

    def test_pref_distill_pulls_towards_the_reward_models_probability(self) -> None:
        # ∂/∂Δlogπ = γ(σ(γΔlogπ) − s): at odds 3 (γ = 1) and s = ½, ¾ − ½.
        logp = torch.tensor([math.log(3) - 4, -4.0], dtype=torch.float64, requires_grad=True)
        reward = torch.zeros((), dtype=torch.float64)
        pair = Pair(logp_chosen=logp[0], logp_rejected=logp[1], reward_chosen=reward, reward_rejected=reward)
        (gradient,) = torch.autograd.grad(get("pref-distill").terms(pair, gamma=1.0).loss, logp)
        assert gradient.tolist() == pytest.approx([0.25, -0.25], rel=1e-13)

    def test_oracle_pulls_its_heads_apart(self) -> None:
        # Reward odds 3: −σ(−log 3) = −¼; language model: −α_lm on y_w and nothing on y_l.
        pair = twins.draw(seed=0, size=1, scale=2.0)
        rewards = torch.tensor([[math.log(3)], [0.0]], dtype=torch.float64)
        pair |= {"student_reward_chosen": rewards[0], "student_reward_rejected": rewards[1]}
        inputs = {n: pair[n].requires_grad_() for n in ("logp_chosen", "student_reward_chosen", "student_reward_rejected")}
        gradients = torch.autograd.grad(get("oracle").terms(Pair(**pair), alpha_lm=0.05).loss, list(inputs.values()))
        assert [g.item() for g in gradients] == pytest.approx([-0.05, -0.25, 0.25], rel=1e-13)

    @pytest.mark.parametrize(("pi_w", "pi_l"), [(0.5, 0.25), (0.05, 0.9), (1e-6, 0.3), (0.9, 1e-9)])
    @pytest.mark.parametrize("gamma_f", [1.0, 2.0, 3.5])
    def test_focal_term(self, pi_w: float, pi_l: float, gamma_f: float) -> None:
        """A.5 in full, with the term of the focal weight that the paper's eq. 34 drops.

        f = −q^γf·g, q = 1 − p_w, g = log π_w − log(1 − π_l). ∂q/∂Δ = −q p_w, ∂g/∂log π_l = π_l/(1 − π_l).
        """
        logp = torch.tensor([math.log(pi_w), math.log(pi_l)], dtype=torch.float64, requires_grad=True)
        value = focal_log_odds(Pair(logp_chosen=logp[0], logp_rejected=logp[1]), gamma_f=gamma_f)
        (gradient,) = torch.autograd.grad(value, logp)
        p_w = pi_w / (pi_w + pi_l)
        weight, g = (1 - p_w) ** gamma_f, math.log(pi_w / (1 - pi_l))
        dropped = gamma_f * weight * p_w * g
        assert value.item() == pytest.approx(-weight * g, rel=1e-12)
        assert gradient.tolist() == pytest.approx([dropped - weight, -dropped - weight * pi_l / (1 - pi_l)], rel=1e-9)

"""Elementwise derivatives of a pair loss, against finite differences and hand-made formulas."""

import pytest
import torch

from theory.solvers.derivatives import pair_derivatives

LOSSES = {
    "polynomial": lambda a, b: a**3 * b + 2 * b**2 - a,
    "logistic": lambda a, b: torch.nn.functional.softplus(b - 2 * a),
    "mixed": lambda a, b: torch.exp(-(a**2)) * torch.sin(b) + torch.sigmoid(a) * b,
    "linear": lambda a, b: 3 * a - b,
    "one input": lambda a, b: a**2 + 0 * b.detach(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_equal_central_differences(name):
    loss = LOSSES[name]
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn((3, 4, 4), generator=generator, dtype=torch.float64) for _ in range(2))
    found = pair_derivatives(loss, {"a": a, "b": b})
    h = 1e-4
    torch.testing.assert_close(found.value, loss(a, b), rtol=0, atol=0)
    moves = {"a": (h, 0), "b": (0, h)}
    for one, (da, db) in moves.items():
        numeric = (loss(a + da, b + db) - loss(a - da, b - db)) / (2 * h)
        torch.testing.assert_close(found.gradient[one], numeric, rtol=1e-6, atol=1e-6)
        for other, (ea, eb) in moves.items():
            signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
            corners = sum(s * loss(a + u * da + v * ea, b + u * db + v * eb) for u, v, s in signs)
            torch.testing.assert_close(found.hessian[one, other], corners / (4 * h * h), rtol=1e-5, atol=1e-5)


def test_hand_made_second_derivatives():
    a, b = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([2.0, 3.0], dtype=torch.float64)
    found = pair_derivatives(lambda a, b: a**3 * b, {"a": a, "b": b})
    torch.testing.assert_close(found.gradient["a"], 3 * a**2 * b)
    torch.testing.assert_close(found.gradient["b"], a**3)
    torch.testing.assert_close(found.hessian["a", "a"], 6 * a * b)
    torch.testing.assert_close(found.hessian["a", "b"], 3 * a**2)
    torch.testing.assert_close(found.hessian["b", "a"], 3 * a**2)
    torch.testing.assert_close(found.hessian["b", "b"], torch.zeros(2, dtype=torch.float64))


def test_a_constant_loss_and_unread_inputs_have_zero_derivatives():
    a = torch.ones(3, dtype=torch.float64)
    found = pair_derivatives(lambda a, b: torch.full((3,), 2.0, dtype=torch.float64), {"a": a, "b": a})
    assert found.value.tolist() == [2.0] * 3
    assert all(not g.any() for g in found.gradient.values())
    assert all(not g.any() for g in found.hessian.values())


def test_works_without_grad_mode_and_leaves_the_inputs_alone():
    a = torch.ones(3, dtype=torch.float64)
    with torch.no_grad():
        found = pair_derivatives(lambda a: a**2, {"a": a})
    assert found.hessian["a", "a"].tolist() == [2.0] * 3
    assert not a.requires_grad
    assert not any(t.requires_grad for t in (found.value, *found.gradient.values(), *found.hessian.values()))

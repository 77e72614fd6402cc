"""The four policy functionals: values by loops, derivatives against torch.func."""

import math

import pytest
import torch
from torch.func import grad, hessian

from theory.objectives import Terms
from theory.solvers.functionals import Functionals

# torch.func's Hessian (forward mode) compiles a helper with the deprecated torch.jit.script.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

COEFFICIENTS = [(1.3, 0, 0, 0), (0, 0.7, 0, 0), (0, 0, 0.9, 0), (0, 0, 0, 1.1), (0.8, 0.6, 0.3, 0.5)]


def _tables(seed: int, vocab: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn((3, vocab), generator=generator, dtype=torch.float64)
    return [2 * z[0], torch.log_softmax(z[1], 0), z[2]]


@pytest.mark.parametrize("coefficients", COEFFICIENTS)
@pytest.mark.parametrize("vocab", [2, 5])
def test_derivatives_equal_torch_func(coefficients, vocab):
    logits, log_ref, reward = _tables(3, vocab)
    functionals = Functionals.of(Terms(None, *coefficients))

    def value(logits):
        return functionals.value(torch.log_softmax(logits, 0), log_ref, reward).squeeze()

    logp = torch.log_softmax(logits, 0)
    torch.testing.assert_close(functionals.gradient(logp, log_ref, reward), grad(value)(logits), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(functionals.hessian(logp, log_ref, reward), hessian(value)(logits), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("coefficients", COEFFICIENTS)
def test_value_equals_a_loop(coefficients):
    logits, log_ref, reward = _tables(4, 6)
    logp = torch.log_softmax(logits, 0)
    a, alpha, beta, lam = coefficients
    expected = 0.0
    for lp, lf, r in zip(logp.tolist(), log_ref.tolist(), reward.tolist(), strict=True):
        expected += math.exp(lp) * (-a * r + alpha * lp + beta * (lp - lf)) + lam * math.exp(lf) * (lf - lp)
    found = Functionals.of(Terms(None, *coefficients)).value(logp, log_ref, reward)
    assert float(found) == pytest.approx(expected, rel=1e-13)


def test_batches_take_a_coefficient_each():
    logits, log_ref, reward = _tables(5, 4)
    logp = torch.log_softmax(logits, 0)
    weights = torch.tensor([0.1, 2.0], dtype=torch.float64)
    batch = Functionals.of(Terms(None, kl=weights, forward_kl=1 - weights))
    both = torch.stack([logp, logp])
    value, gradient, second = (getattr(batch, name)(both, log_ref, reward) for name in ("value", "gradient", "hessian"))
    for k, w in enumerate(weights.tolist()):
        alone = Functionals.of(Terms(None, kl=w, forward_kl=1 - w))
        torch.testing.assert_close(value[k], alone.value(logp, log_ref, reward))
        torch.testing.assert_close(gradient[k], alone.gradient(logp, log_ref, reward))
        torch.testing.assert_close(second[k], alone.hessian(logp, log_ref, reward))


def test_zero_is_known():
    assert Functionals.of(Terms()).zero
    assert not Functionals.of(Terms(kl=torch.tensor([0.0, 1e-300], dtype=torch.float64))).zero

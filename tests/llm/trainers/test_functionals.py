"""The estimates of the policy functionals, averaged over all samples that could be drawn."""

import itertools

import pytest
import torch

from llm.trainers.functionals import forward_kl_of_data, reverse_kl_of_data, reverse_kl_of_samples

REF = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).log()


def logits():
    return torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64, requires_grad=True)


def exact(parameters):
    """KL(π‖π_ref) and its gradient."""
    logp = parameters.log_softmax(0)
    value = (logp.exp() * (logp - REF)).sum()
    return value.detach(), torch.autograd.grad(value, parameters)[0]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_fresh_samples_are_unbiased_in_value_and_gradient(size):
    """Every sample of ``size`` responses, weighted by its probability."""
    parameters = logits()
    probability = parameters.log_softmax(0).exp().detach()
    value, slope = torch.zeros((), dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for drawn in itertools.product(range(3), repeat=size):
        weight = probability[list(drawn)].prod()
        estimate = reverse_kl_of_samples(parameters.log_softmax(0)[list(drawn)], REF[list(drawn)])
        value += weight * estimate.detach()
        slope += weight * torch.autograd.grad(estimate, parameters)[0]
    truth = exact(parameters)
    torch.testing.assert_close(value, truth[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, truth[1], rtol=1e-12, atol=1e-12)


def test_the_baseline_lowers_the_variance():
    """With π_ref far above π everywhere but for noise, the gap is nearly constant and only the baseline removes it."""
    parameters, far = logits(), REF - 5
    probability = parameters.log_softmax(0).exp().detach()
    spread = {}
    for name, shift in (("with", False), ("without", True)):
        total, square = torch.zeros(3, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for drawn in itertools.product(range(3), repeat=2):
            chosen = list(drawn)
            weight, logp = probability[chosen].prod(), parameters.log_softmax(0)[chosen]
            plain = ((logp - far[chosen]).detach() * logp).mean()
            estimate = plain if shift else reverse_kl_of_samples(logp, far[chosen])
            slope = torch.autograd.grad(estimate, parameters)[0]
            total, square = total + weight * slope, square + weight * (slope**2).sum()
        spread[name] = float(square - (total**2).sum())
    assert spread["with"] < 0.1 * spread["without"]


def test_at_the_reference_fresh_samples_say_zero_and_push_nowhere():
    parameters = REF.clone().requires_grad_()
    estimate = reverse_kl_of_samples(parameters.log_softmax(0)[[0, 2, 2]], REF[[0, 2, 2]])
    assert estimate.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(estimate, parameters)[0].abs().max() < 1e-12


@pytest.mark.parametrize("form", [reverse_kl_of_data, forward_kl_of_data])
def test_data_of_the_reference_are_unbiased_in_value_and_gradient(form):
    """One response at a time, weighted by π_ref, is the sum over all."""
    parameters = logits()
    logp = parameters.log_softmax(0)
    estimate = sum(p * form(logp[[v]], REF[[v]]) for v, p in enumerate(REF.exp()))
    value, slope = exact(parameters)
    if form is forward_kl_of_data:
        truth = (REF.exp() * (REF - logp)).sum()
        value, slope = truth.detach(), torch.autograd.grad(truth, parameters, retain_graph=True)[0]
    torch.testing.assert_close(estimate.detach(), value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(estimate, parameters)[0], slope, rtol=1e-12, atol=1e-12)

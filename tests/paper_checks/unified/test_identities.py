import math

import pytest
import sympy as sp
import torch

from paper_checks.claims import Verdict
from paper_checks.unified import identities


def test_zero_tells_identities_from_others():
    a, b = sp.symbols("a b", positive=True)
    assert identities.zero(sp.log(a * b) - sp.log(a) - sp.log(b))
    assert not identities.zero(sp.log(a * b) - sp.log(a) - 2 * sp.log(b))


@pytest.mark.parametrize(
    ("proved", "measured", "verdict"),
    [
        ({"a": True}, {"b": 1e-13}, Verdict.HOLDS),
        ({"a": False}, {"b": 1e-13}, Verdict.FAILS),
        ({"a": True}, {"b": 1e-3}, Verdict.FAILS),
    ],
)
def test_one_broken_step_decides(proved, measured, verdict):
    assert identities.decide(proved, measured, 1e-12).verdict is verdict


def test_objective_value_by_hand():
    log_pi, log_ref = torch.tensor([0.75, 0.25]).double().log(), torch.tensor([0.5, 0.5]).double().log()
    reward = torch.tensor([2.0, -1.0]).double()
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    negative_entropy = 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    rlhf = identities.objective_value("rlhf", log_pi, log_ref, reward, 0.5, beta=0.3)
    rkl = identities.objective_value("rkl", log_pi, log_ref, reward, 0.5, alpha=0.7, beta=0.3)
    assert float(rlhf) == pytest.approx(-1.25 + 0.3 * kl, rel=1e-6)
    assert float(rkl) == pytest.approx(-2.5 + 0.7 * negative_entropy + 0.3 * kl, rel=1e-6)


def test_all_pairs_puts_winners_on_the_second_last_axis():
    log_pi = torch.tensor([-1.0, -2.0, -4.0]).double()
    margin = identities.all_pairs(log_pi, log_pi, log_pi).logp_margin
    assert margin[0, 2] == 3
    assert margin[2, 1] == -2


def test_a_wrong_temperature_is_found_out(monkeypatch):
    # With RKL's reward scaled by 1/γ forgotten, α = 0 no longer gives RLHF at βγ.
    honest = identities.objective_value

    def forgetful(name, log_pi, log_ref, reward, gamma, **hyper):
        return honest(name, log_pi, log_ref, reward, 1.0 if name == "rkl" else gamma, **hyper)

    monkeypatch.setattr(identities, "objective_value", forgetful)
    assert identities.rkl_and_rlhf().verdict is Verdict.FAILS


def test_a_biased_minimiser_is_found_out(monkeypatch):
    honest = identities.by_newton
    monkeypatch.setattr(identities, "by_newton", lambda task, name, reward=None, **h: honest(task, name, reward, **h).roll(1, -1))
    assert identities.reward_likelihood_is_pmle().verdict is Verdict.FAILS
    assert identities.distillation_is_expected_pmle().verdict is Verdict.FAILS
    assert identities.smoothed_prior().verdict is Verdict.FAILS

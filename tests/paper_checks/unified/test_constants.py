"""The explicit constants: φ against high precision, and every factor against outcomes made to break a smaller one."""

import math

import mpmath
import numpy as np
import pytest

from paper_checks.unified.bounds import Held, finding
from paper_checks.unified.classes import FiniteClass, scattered
from paper_checks.unified.constants import Factors, Scale, disagreement, phi, preference_error
from paper_checks.unified.trials import Trial, families
from theory.instances import Instance


@pytest.mark.parametrize("u", [-3.0, -1e-3, -1e-9, 0.0, 1e-7, 9e-5, 1.1e-4, 0.5, 10.0])
def test_phi(u):
    with mpmath.workdps(40):
        expected = mpmath.mpf(1) / 2 if u == 0 else (mpmath.exp(u) - 1 - mpmath.mpf(u)) / mpmath.mpf(u) ** 2
    assert phi(u) == pytest.approx(float(expected), rel=1e-8)


def test_concentration_by_hand():
    assert preference_error(20, 100, 0.05) == pytest.approx(2 * math.log(400) / 100)
    assert disagreement(10, 50, 0.1) == pytest.approx(math.log(100) / 50)
    assert Factors(3.0).one_stage(20, 100, 0.05) == pytest.approx(6 * math.log(400) / 100)
    both = Factors(3.0, 5.0).two_stages(10, 100, 20, 50, 0.1)
    assert both == pytest.approx(6 * math.log(200) / 100 + 5 * math.log(400) / 50)


def test_factors_by_hand():
    """γ = 1, B = 1, C = 2 (and C_ν = 3): φ(2) = (e² − 3)/4, φ(3) = (e³ − 4)/9."""
    scale, e = Scale(1.0, 1.0), math.e
    two, three = (e**2 - 3) / 4, (e**3 - 4) / 9
    assert scale.pmle(2.0).error == pytest.approx(16 * two * e**2)
    assert scale.distillation(2.0).disagrees == pytest.approx(4 * two)
    assert scale.distillation(2.0).error == pytest.approx(16 * two * e**2)
    assert scale.rkl(2.0) == Factors(scale.pmle(2.0).error, 1.0)
    assert scale.strong_base(2.0, 3.0).error == pytest.approx(32 * three * e**2)
    assert scale.strong_base(2.0, 3.0).disagrees == pytest.approx(12 * three)


def test_gamma_scales_rewards_only():
    """With γ → 0 preferences fade like γ, so the factor of the error must grow like γ⁻²."""
    assert Scale(1e-4, 1.0).pmle(1.0).error == pytest.approx(1e8 * 8 * phi(2.0), rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_deterministic_bounds_hold_for_any_policy(seed):
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(3, 0.7), (3, 2)).clip(1e-3)
    target, reference, data = rows / rows.sum(-1, keepdims=True)
    instance = Instance(target, reference, data, gamma=float(rng.uniform(0.3, 2)))
    known = scattered(instance, 40, 1.5, seed)
    factors = Scale(instance.gamma, known.bound).pmle(known.coverage)
    assert (known.kls[1:] <= factors.error * known.errors[1:]).all()


def _held(name="random", shrink=1.0, trial=None):
    known = families()[name]
    factors = Scale(known.instance.gamma, known.bound).pmle(known.coverage)
    trial = trial or Trial(known, sets=1_000)
    return Held(trial, trial.pmle(), Factors(factors.error * shrink), known.errors)


def test_a_bound_that_is_too_small_is_found():
    assert finding({"random": _held().row()}, {}).verdict == "holds"
    tight = _held().largest_share
    assert finding({"random": _held(shrink=0.9 * tight).row()}, {}).verdict == "fails"
    assert _held(shrink=0.9 * tight).largest_share == pytest.approx(1 / 0.9)


def test_least_factors_are_the_least():
    held = _held()
    assert Held(held.trial, held.found, held.least, held.errors).largest_share == pytest.approx(1)


def test_least_factors_of_two_stages():
    """Rewards {π*, a}, policies {π*, a, b}: every outcome within the bound, one at it."""
    known = families()["rare responses"]
    trial = Trial(known, sets=10)
    held = Held(trial, np.zeros(10), Factors(1.0), known.subclass.errors, known.differs_on_prompts())
    assert Held(trial, held.found, held.least, held.errors, held.differs).largest_share == pytest.approx(1)
    assert held.least.disagrees <= known.bound


def test_a_wrong_rate_is_found():
    good = {"slope": [-1.0, -1.05, -0.95], "n_error_over_constant": [1.0, 0.9, 1.1]}
    assert finding({}, {"a": good}).verdict == "holds"
    rows = {"random": _held().row()}
    for wrong in ({"slope": [-0.5, -0.55, -0.45]}, {"n_error_over_constant": [2.0, 1.8, 2.2]}):
        assert finding(rows, {"a": {**good, **wrong}}).verdict == "fails"


def test_an_empty_data_set_leaves_the_worst_member():
    """With one informative draw at most, the adversary may return the worst member that explains it."""
    target, other = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
    known = FiniteClass(Instance(target, target), np.stack([target, other]), range(2))
    found = Trial(known, n=1, sets=400).pmle()
    # A tie (½) leaves both members; of the wins (½) half favour the other one.
    assert (found > 0).mean() == pytest.approx(0.75, abs=0.08)

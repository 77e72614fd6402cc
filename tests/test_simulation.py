"""The numbers: rates, efficiencies and floors of simulated fits against theory's closed forms.

Seeds are fixed, so nothing here fails by chance from one run to the next; each docstring states how
often a correct program with other seeds would fail it.
"""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from theory.errors import UserError
from theory.instances import Instance, random_instance
from theory.objectives import get
from theory.sampling import Edges, WinCounts, population
from theory.simulation import Settings, draw_data, floor, make_task, solve, world_of
from theory.solvers.edgetask import EdgeTask
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask
from theory.statistics.efficiency import asymptotic_constant, information
from theory.statistics.rates import slope

CONSISTENT = {"rkl": {"alpha": 1.0, "beta": 0.0}, "pmle": {"beta": 0.0}, "pref-distill": {"beta": 0.0}}
TOY = random_instance(0)


def _simulate(instance: Instance, settings: Settings, n: float, seeds: int = 1, seed: int = 0):
    data = draw_data(instance, n, seed, range(seeds))
    return solve(instance, make_task(instance, data, settings), settings)


def _forward_kl(instance: Instance, logits: np.ndarray) -> float:
    rows = (instance.target * (np.log(instance.target) - log_softmax(logits, -1))).sum(-1)
    return float(instance.context_weights @ rows)


# --- Consistent methods: the rate and the constant. -------------------------------------------------


@pytest.mark.parametrize("rule", ["fixed", "best"])
@pytest.mark.parametrize("name", CONSISTENT)
def test_the_error_of_consistent_methods_falls_like_one_over_n(name, rule):
    """Slope −1 ± 0.05 over n = 1e5 … 1e9.

    n·KL is half a weighted χ² of 90 degrees of freedom, deviation 0.15 of its mean; with 20 seeds at
    each of 5 sizes the slope's deviation is 0.005, so ± 0.05 is ten of them: 1e-22.
    """
    sizes = [10**k for k in range(5, 10)]
    settings = Settings(get(name), CONSISTENT[name] if rule == "fixed" else {}, rule)
    errors = [_simulate(TOY, settings, n, 20).forward_kl for n in sizes]
    found = slope(np.repeat(np.array(sizes, float), 20), np.concatenate(errors))
    assert found.value == pytest.approx(-1, abs=0.05)


@pytest.mark.parametrize("name", CONSISTENT)
def test_consistent_methods_are_efficient(name):
    """c/(n·KL) = 1 ± 0.1 at n = 1e7 over 200 seeds: nine deviations (0.15/√200 = 0.011), 1e-19."""
    n = 10**7
    outcome = _simulate(TOY, Settings(get(name), CONSISTENT[name], "fixed"), n, 200)
    assert asymptotic_constant(TOY) / (n * outcome.forward_kl.mean()) == pytest.approx(1, abs=0.1)
    assert outcome.finite.all()
    assert (outcome.gradient_norm <= 1e-8).all()


def test_consistent_methods_coincide_on_a_table():
    """[math §2] At β = 0 all three are exp(r̂/γ)/Z of the same reward fit."""
    fits = [_simulate(TOY, Settings(get(n), v, "fixed", Options(ridge=0.0)), 10**6, 3).logp for n, v in CONSISTENT.items()]
    for other in fits[1:]:
        np.testing.assert_allclose(other, fits[0], atol=1e-6)


@pytest.mark.parametrize("name", CONSISTENT)
def test_their_population_limit_is_the_target(name):
    assert floor(TOY, Settings(get(name), CONSISTENT[name], "fixed")) < 1e-12
    assert floor(TOY, Settings(get(name))) < 1e-12


# --- Inconsistent methods: the floor. ---------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_floors_of_rlhf_and_dpo_agree_at_equal_beta(beta):
    """Both are π_ref (π*)^{γ/β}/Z, written out in numpy."""
    expected = _forward_kl(TOY, np.log(TOY.reference) + TOY.reward() / beta)
    for name in ("rlhf", "dpo"):
        assert floor(TOY, Settings(get(name), {"beta": beta}, "fixed")) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["rlhf", "dpo"])
def test_tuned_rlhf_and_dpo_stop_at_the_best_floor(name):
    """The mean over 20 seeds at n = 1e8 is within 1 % of min_β, which scipy finds on the closed form.

    The excess over the floor is about c/n = 1e-6 of 0.1: the 1 % are never reached by chance.
    """
    found = minimize_scalar(
        lambda b: _forward_kl(TOY, np.log(TOY.reference) + TOY.reward() / np.exp(b)), bounds=(-3, np.log(100)), method="bounded"
    )
    assert floor(TOY, Settings(get(name))) == pytest.approx(found.fun, rel=1e-6)
    outcome = _simulate(TOY, Settings(get(name)), 10**8, 20)
    assert outcome.forward_kl.mean() == pytest.approx(found.fun, rel=0.01)
    assert found.fun > 0.05
    assert np.log(outcome.hyper["beta"]).std() < 0.01


def test_the_dilemma_of_rlhf():
    """Unified §5: a fixed β underfits, β → 0 collapses to argmax r̂."""
    population_floor = [floor(TOY, Settings(get("rlhf"), {"beta": b}, "fixed")) for b in (1e-3, 0.1, 1.0, 30.0)]
    assert population_floor[0] > 10 * population_floor[2]
    assert min(population_floor) > floor(TOY, Settings(get("rlhf"))) > 0
    collapsed = _simulate(TOY, Settings(get("rlhf"), {"beta": 1e-3}, "fixed"), math.inf)
    np.testing.assert_array_equal(collapsed.logp[0].argmax(-1), TOY.target.argmax(-1))
    assert np.exp(collapsed.logp[0].max(-1)).min() > 0.99
    assert np.isfinite(collapsed.reverse_kl).all()


def test_a_uniform_reference_leaves_no_floor():
    """[math §2] Then β = γ gives π*, for rlhf and dpo."""
    instance = Instance(TOY.target, np.full((10, 10), 0.1), gamma=1.7)
    for name in ("rlhf", "dpo"):
        assert floor(instance, Settings(get(name), {"beta": 1.7}, "fixed")) < 1e-12
        assert floor(instance, Settings(get(name))) < 1e-6


# --- DRDO. ------------------------------------------------------------------------------------------


def _drdo_population(instance: Instance, tied: bool) -> float:
    """The forward KL of DRDO's population minimiser, by torch's L-BFGS on the equation of drdo eq. 6."""
    win = torch.from_numpy(instance.win_probability())
    mu, reward = torch.from_numpy(instance.data_policy), torch.from_numpy(instance.reward())
    weight = 2 * mu[:, :, None] * mu[:, None, :] * win * (1 - torch.eye(instance.vocab))
    logits = torch.from_numpy(np.log(instance.reference)).requires_grad_()
    optimiser = torch.optim.LBFGS([logits], 1.0, 5_000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        logp = torch.log_softmax(logits, -1)
        winner, loser = logp[:, :, None], logp[:, None, :]
        focal = (1 - torch.sigmoid(winner - loser)) ** 2 * (winner - torch.log1p(-loser.exp()))
        loss = -0.1 * focal
        if tied:
            student = instance.gamma * logp
            regression = reward[:, :, None] - reward[:, None, :] - student[:, :, None] + student[:, None, :]
            loss = loss + regression**2
        total = (weight * loss).sum()
        total.backward()
        return total

    optimiser.step(closure)
    return _forward_kl(instance, logits.detach().numpy())


@pytest.mark.parametrize("head", ["separate", "tied"])
def test_drdo_saturates_at_its_population_minimiser(head):
    """Mean over 20 seeds, within 1 %: n = 1e9 and, because its floor is only 5e-6, n = 1e11 with a tied head.

    The excess over the floor is about c/n, at most 0.04 % of it; its deviation is smaller still.
    """
    settings = Settings(get("drdo"), rule="fixed", options=Options(reward_head=head))
    limit = floor(TOY, settings)
    assert limit == pytest.approx(_drdo_population(TOY, head == "tied"), rel=1e-4)
    outcome = _simulate(TOY, settings, 10**11 if head == "tied" else 10**9, 20)
    assert outcome.forward_kl.mean() == pytest.approx(limit, rel=0.01)


def test_drdos_floor_with_a_tied_head_is_smaller_but_not_zero():
    for seed in range(3):
        instance = random_instance(seed)
        separate, tied = (
            floor(instance, Settings(get("drdo"), rule="fixed", options=Options(reward_head=h))) for h in ("separate", "tied")
        )
        assert 0.005 < separate < 0.1
        assert 1e-9 < tied < separate / 10


def test_drdos_separate_head_learns_the_reward_whatever_the_policy():
    """The regression does not touch the policy: the student's reward is r*, up to a constant."""
    outcome = _simulate(TOY, Settings(get("drdo"), rule="fixed", options=Options(oracle="true", ridge=0.0)), math.inf)
    centred = TOY.reward() - TOY.reward().mean(1, keepdims=True)
    np.testing.assert_allclose(outcome.student[0], centred, atol=1e-7)


def test_drdo_at_two_responses_is_no_objective_for_the_policy():
    """V = 2: π(y_w) = 1 − π(y_l), the focal term is identically zero, and only the ridge places the policy."""
    instance = random_instance(0, vocab=2)
    outcome = _simulate(instance, Settings(get("drdo"), rule="fixed"), 10**4)
    np.testing.assert_allclose(outcome.logp[0], np.log(instance.reference), atol=1e-5)


# --- Log-linear classes. ----------------------------------------------------------------------------

REALIZABLE = random_instance(4, vocab=6, contexts=4, features=3, realizable=True)
MISSPECIFIED = random_instance(4, vocab=6, contexts=4, features=3)


def _log_linear_constant(instance: Instance) -> float:
    """½ tr(I⁻¹S) in the parameters that contexts share."""
    phi, rho, p = instance.features, instance.context_weights, instance.target
    fisher = np.einsum("x,xvd,xvu,xue->de", rho, phi, information(instance), phi)
    centred = phi - np.einsum("xv,xvd->xd", p, phi)[:, None]
    spread = np.einsum("x,xv,xvd,xve->de", rho, p, centred, centred)
    return float(np.trace(np.linalg.solve(fisher, spread))) / 2


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("rkl", {"reward_class": "log-linear"}),
        ("rkl", {"reward_class": "log-linear", "policy_class": "log-linear"}),
        ("pmle", {"policy_class": "log-linear"}),
        ("reward", {"reward_class": "log-linear"}),
    ],
)
def test_a_realizable_class_is_consistent_and_efficient(name, classes):
    """n·KL against the class's own Cramér–Rao constant at n = 1e6: four standard errors, 6e-5."""
    settings = Settings(get(name), CONSISTENT.get(name, {}), "fixed", **classes)
    assert floor(REALIZABLE, settings) < 1e-12
    n = 10**6
    scaled = n * _simulate(REALIZABLE, settings, n, 300).forward_kl
    error = scaled.std(ddof=1) / np.sqrt(300)
    constant = _log_linear_constant(REALIZABLE)
    assert abs(scaled.mean() - constant) < 4 * error
    assert error < 0.1 * constant
    assert constant < asymptotic_constant(REALIZABLE) / 3  # three parameters instead of twenty


@pytest.mark.parametrize(("name", "classes"), [("rkl", {"reward_class": "log-linear"}), ("pmle", {"policy_class": "log-linear"})])
def test_a_misspecified_class_leaves_a_floor(name, classes):
    """Within 1 % of its own population minimiser at n = 1e9, which is not the target."""
    settings = Settings(get(name), CONSISTENT[name], "fixed", **classes)
    limit = floor(MISSPECIFIED, settings)
    assert limit > 0.01
    assert _simulate(MISSPECIFIED, settings, 10**9, 5).forward_kl == pytest.approx(limit, rel=0.01)


def test_a_log_linear_reward_leaves_the_policy_in_closed_form():
    """Only the reward is restricted: rlhf is still π_ref e^{r̂/β}/Z, at the smallest β too."""
    settings = Settings(get("rlhf"), {"beta": 0.01}, "fixed", reward_class="log-linear")
    task = make_task(MISSPECIFIED, draw_data(MISSPECIFIED, 1_000, 0), settings)
    outcome = solve(MISSPECIFIED, task, settings)
    expected = log_softmax(np.log(MISSPECIFIED.reference) + task.reward_fit.reward[0].numpy() / 0.01, -1)
    assert outcome.kind == "closed-form"
    np.testing.assert_allclose(outcome.logp[0], expected, atol=1e-9)


# --- What an experiment is made of. -----------------------------------------------------------------


def test_distances_of_an_outcome():
    outcome = _simulate(TOY, Settings(get("rkl"), {}, "fixed"), 1_000, 2)
    for s in range(2):
        log_p, p = outcome.logp[s], np.exp(outcome.logp[s])
        assert outcome.forward_kl[s] == pytest.approx((TOY.target * (np.log(TOY.target) - log_p)).sum() / 10, rel=1e-9)
        assert outcome.reverse_kl[s] == pytest.approx((p * (log_p - np.log(TOY.target))).sum() / 10, rel=1e-9)
        assert outcome.total_variation[s] == pytest.approx(np.abs(p - TOY.target).sum() / 20, rel=1e-9)
    assert outcome.n == 1_000
    assert outcome.vanishing.shape == (2, 10, 10)


def test_which_hyperparameter_is_searched():
    assert Settings(get("rkl")).searched == "beta"
    assert Settings(get("rkl"), {"alpha": 0.5}).searched == "beta"
    assert Settings(get("rkl"), {"beta": 0.5}).searched is None
    assert Settings(get("rkl"), rule="fixed").searched is None
    assert Settings(get("ipo")).searched == "tau"
    assert Settings(get("drdo")).searched is None


def test_data_are_dense_sparse_or_the_population():
    large = random_instance(0, vocab=1_001, contexts=1)
    assert isinstance(draw_data(TOY, 10, 0), WinCounts)
    assert math.isinf(draw_data(TOY, math.inf, 0).n)
    sparse = draw_data(large, 50, 0)
    assert isinstance(sparse, Edges)
    assert isinstance(make_task(large, sparse, Settings(get("dpo"))), EdgeTask)
    assert isinstance(make_task(TOY, population(TOY), Settings(get("dpo"))), TableTask)
    with pytest.raises(UserError, match=r"--n inf: .*V = 1001"):
        draw_data(large, math.inf, 0)
    with pytest.raises(UserError, match="one data set at a time"):
        draw_data(large, 50, 0, range(2))


def test_log_linear_classes_need_features():
    for name in ("policy", "reward"):
        with pytest.raises(UserError, match=rf"--{name}-class log-linear: needs an instance with features"):
            world_of(TOY, Settings(get("rkl"), **{f"{name}_class": "log-linear"}))


def test_the_floor_above_the_dense_limit():
    """Known only in closed form, from r* itself."""
    large = random_instance(3, vocab=1_200, contexts=1)
    found = minimize_scalar(
        lambda b: _forward_kl(large, np.log(large.reference) + large.reward() / np.exp(b)),
        bounds=(-3, np.log(100)),
        method="bounded",
    )
    for name in ("rlhf", "dpo"):
        assert floor(large, Settings(get(name))) == pytest.approx(found.fun, rel=1e-5)
        fixed = _forward_kl(large, np.log(large.reference) + large.reward() / 0.7)
        assert floor(large, Settings(get(name), {"beta": 0.7}, "fixed")) == pytest.approx(fixed, rel=1e-9)
    assert floor(large, Settings(get("rkl"), CONSISTENT["rkl"], "fixed")) < 1e-12
    assert math.isnan(floor(large, Settings(get("drdo"))))
    assert math.isnan(floor(large, Settings(get("pmle"), {"beta": 0.1}, "fixed")))


def test_a_simulation_on_the_sparse_path():
    """V = 1,200, one context: the error of rkl falls with n and stays far above the dense tests' sizes."""
    large = random_instance(3, vocab=1_200, contexts=1)
    settings = Settings(get("rkl"), {"alpha": 1.0, "beta": 0.05}, "fixed")
    errors = [_simulate(large, settings, n).forward_kl[0] for n in (20_000, 200_000)]
    assert errors[1] < errors[0] / 3
    assert all(np.isfinite(errors))

"""Newton's method: against scipy.optimize on an independent objective, its certificate, and batches."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tests.solvers.twins import HYPER, LABEL_FREE, TRAINS_A_HEAD, torch_value
from theory.instances import random_instance
from theory.objectives import get, names
from theory.sampling import WinCounts, draw
from theory.simulation import Settings, make_task
from theory.solvers.newton import CERTIFIED, newton
from theory.solvers.options import Options
from theory.solvers.selection import Search

CASES = [(name, head) for name in names() for head in ("separate", "tied") if head == "separate" or name in TRAINS_A_HEAD]


def _task(instance, data, **options):
    return make_task(instance, data, Settings(get("dpo"), options=Options(**options)))


def _hyper(name: str, seeds: int, values=None) -> dict[str, torch.Tensor]:
    full = {**get(name).resolve({}), **(values or {})}
    return {k: torch.full((seeds,), v, dtype=torch.float64) for k, v in full.items()}


@pytest.mark.parametrize(("name", "head"), CASES)
def test_reaches_what_scipy_reaches(name, head):
    """The minimum of an independently written objective by BFGS, from the same start."""
    instance = random_instance(4, vocab=4, contexts=2, gamma=1.3)
    data = draw(instance, 400, seed=9)
    task = _task(instance, data, reward_head=head, ridge=0.05)
    objective, gamma = get(name), instance.gamma
    hyper = _hyper(name, 1, HYPER[name])
    (reward, *_) = task.rewards(objective)
    fit = task.iterate(objective, hyper, reward, task.log_ref)
    tied = head == "tied" and objective.reads("logp")
    policy = objective.reads("logp") or not objective.has_loss
    total = 0.0
    for x in range(2):
        frequencies = torch.from_numpy(data.wins[0, x] / data.totals[0, x])
        log_ref = task.log_ref[0, x]
        fixed = torch.zeros(4, dtype=torch.float64) if reward is None else reward[0, x]
        ridge = 0.0 if name in LABEL_FREE else 0.05 / data.totals[0, x]

        def tables(theta):
            return (theta[:4] if policy else None), (theta[-4:] if name in TRAINS_A_HEAD and not tied else None)

        def function(theta, frequencies=frequencies, log_ref=log_ref, fixed=fixed, ridge=ridge, tables=tables):
            leaf = torch.from_numpy(theta).requires_grad_()
            value = torch_value(objective, gamma, HYPER[name], frequencies, log_ref, fixed, *tables(leaf), ridge, tied)
            (slope,) = torch.autograd.grad(value, leaf)
            return value.item(), slope.numpy()

        start = np.concatenate([log_ref.numpy()] * policy + [np.zeros(4)] * (tables(np.zeros(8))[1] is not None))
        found = minimize(function, start, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 2000})
        assert np.abs(found.jac).max() < 1e-7
        total += found.fun * data.totals[0, x] / data.totals.sum()
        logits, student = tables(torch.from_numpy(found.x))
        if logits is not None:
            torch.testing.assert_close(fit.logp[0, x], torch.log_softmax(logits, 0), rtol=0, atol=3e-6)
        else:
            torch.testing.assert_close(fit.logp[0, x], torch.log_softmax(student / gamma, 0), rtol=0, atol=3e-6)
        if student is not None:
            torch.testing.assert_close(fit.reward[0, x], student - student.mean(), rtol=0, atol=3e-6)
    assert fit.value.item() == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("name", ["dpo", "rlhf", "rkl", "pmle", "pref-distill", "p-dpo", "simpo"])
def test_a_log_linear_class_reaches_what_scipy_reaches(name):
    """Contexts share w: minimise Σ_x ρ̂_x L_x(φ_x w) by BFGS from zero."""
    instance = random_instance(6, vocab=5, contexts=3, gamma=1.3, features=2)
    data = draw(instance, 400, seed=9)
    objective = get(name)
    task = make_task(instance, data, Settings(objective, policy_class="log-linear"))
    (reward,) = task.rewards(objective)
    fit = task.iterate(objective, _hyper(name, 1, HYPER[name]), reward, task.log_ref)
    share = data.totals[0] / data.totals.sum()

    def function(w):
        leaf, total = torch.from_numpy(w).requires_grad_(), torch.zeros((), dtype=torch.float64)
        for x in range(3):
            frequencies = torch.from_numpy(data.wins[0, x] / data.totals[0, x])
            fixed = torch.zeros(5, dtype=torch.float64) if reward is None else reward[0, x]
            ridge = 0.0 if name in LABEL_FREE else 0.01 / data.totals[0, x]
            logits = torch.from_numpy(instance.features[x]) @ leaf
            table = (frequencies, task.log_ref[0, x], fixed, logits, None, ridge)
            total = total + share[x] * torch_value(objective, instance.gamma, HYPER[name], *table)
        (slope,) = torch.autograd.grad(total, leaf)
        return total.item(), slope.numpy()

    found = minimize(function, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-10})
    expected = torch.log_softmax(torch.from_numpy(instance.features @ found.x), -1)
    torch.testing.assert_close(fit.logp[0], expected, rtol=0, atol=1e-6)
    assert fit.value.item() == pytest.approx(found.fun, abs=1e-10)


@pytest.mark.parametrize(
    ("name", "values"), [("rlhf", {"beta": 0.05}), ("rlhf", {"beta": 0.4}), ("rkl", {"alpha": 0.8, "beta": 0.3})]
)
def test_a_certificate_is_never_a_plateau(name, values):
    """E_π[r] is flat wherever a probability is tiny; Newton must not step out there and call it a minimum."""
    instance = random_instance(5, vocab=5, contexts=3, gamma=1.7)
    task = _task(instance, draw(instance, 3_000, 2, range(20)), ridge=0.3)
    objective, hyper = get(name), _hyper(name, 20, values)
    (reward,) = task.rewards(objective)
    exact = task.minimise(objective, hyper, reward, task.log_ref)
    noise = torch.randn(task.log_ref.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for start in (task.log_ref, torch.zeros_like(task.log_ref), noise):
        found = task.iterate(objective, hyper, reward, start)
        certified = found.gradient_norm <= CERTIFIED
        assert certified.sum() >= 18
        torch.testing.assert_close(found.value[certified], exact.value[certified], rtol=0, atol=1e-9)


@pytest.mark.parametrize("ridge", [1e-2, 1e-5, 1e-8, 1e-10])
def test_separable_data_and_a_small_ridge_are_certified(ridge):
    """A response that never won, under simpo: far out only the ridge bends the objective."""
    wins = np.array([[0, 3, 0, 0], [0, 0, 3, 2], [3, 0, 0, 0], [0, 0, 0, 0.0]])[None, None]
    task = _task(random_instance(3, vocab=4, contexts=1), WinCounts(wins, np.array([[13.0]]), 13.0), ridge=ridge)
    assert task.iterate(get("simpo"), _hyper("simpo", 1), None, task.log_ref).gradient_norm.item() <= CERTIFIED


@pytest.fixture(scope="module")
def ten_thousand():
    """Ten contexts of ten responses, four data sets of 1e4 comparisons."""
    instance = random_instance(0)
    return instance, draw(instance, 10_000, seed=1, replicates=range(4))


@pytest.mark.parametrize(("name", "head"), CASES)
def test_every_objective_is_certified(ten_thousand, name, head):
    instance, data = ten_thousand
    task = _task(instance, data, reward_head=head)
    chosen = Search(get(name), [task]).at(get(name).resolve({}))
    assert (chosen.fits[0].gradient_norm <= CERTIFIED).all()
    # What is called convex or closed has one minimum: every start must find it.
    if chosen.kind != "local":
        assert (chosen.agreeing == chosen.starts).all()


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_batch_equals_its_members_one_at_a_time(name, head):
    instance = random_instance(2, vocab=4, contexts=3)
    data = draw(instance, 2_000, seed=5, replicates=range(5))
    values = get(name).resolve(HYPER[name])

    def fit(data: WinCounts):
        return Search(get(name), [_task(instance, data, reward_head=head)]).at(values).fits[0]

    together = fit(data)
    for k in range(5):
        alone = fit(data.seeds(slice(k, k + 1)))
        torch.testing.assert_close(together.logp[k], alone.logp[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(together.value[k], alone.value[0], rtol=1e-9, atol=1e-8)


class Valley:
    """Rosenbrock's valley, D = 2: not convex, with its one minimum at (1, 1)."""

    def __init__(self, size: int):
        self.size = size
        self.gauge = torch.zeros(2, 2, dtype=torch.float64)

    def evaluate(self, theta):
        x, y = theta.unbind(-1)
        value = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        gradient = torch.stack([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)], -1)
        cross = -400 * x
        rows = [torch.stack([2 - 400 * (y - 3 * x**2), cross], -1), torch.stack([cross, torch.full_like(x, 200.0)], -1)]
        return value, gradient, torch.stack(rows, -2)

    def take(self, index):
        return Valley(len(index))

    def excess(self, step):
        return torch.zeros(self.size, dtype=torch.float64)


def test_a_valley_that_is_not_convex():
    start = torch.tensor([[-1.2, 1.0], [3.0, -4.0], [1.0, 1.0], [0.0, 5.0]], dtype=torch.float64)
    found = newton(Valley(4), start)
    torch.testing.assert_close(found.theta, torch.ones(4, 2, dtype=torch.float64), rtol=0, atol=1e-8)
    assert found.certified.all()
    assert found.curvature.all()
    assert found.iterations[2] < found.iterations[0]


def test_running_out_of_steps_is_not_certified():
    found = newton(Valley(1), torch.tensor([[-1.2, 1.0]], dtype=torch.float64), limit=3)
    assert not found.certified.any()
    assert found.iterations.item() == 3


def test_contexts_without_data_stay_at_the_prior():
    """n_x = 0: the fitted reward is zero, so dpo stays at π_ref and pmle without KL at uniform."""
    instance = random_instance(1, vocab=5, contexts=2)
    wins, totals = np.zeros((1, 2, 5, 5)), np.array([[30.0, 0.0]])
    wins[0, 0, 0, 1:] = wins[0, 0, 1:, 0] = 2
    task = _task(instance, WinCounts(wins, totals, 30.0))
    dpo = task.iterate(get("dpo"), _hyper("dpo", 1), None, task.log_ref * 0.5)
    torch.testing.assert_close(dpo.logp[0, 1], task.log_ref[0, 1], rtol=0, atol=1e-9)
    pmle = task.iterate(get("pmle"), _hyper("pmle", 1, {"beta": 0.0}), None, task.log_ref)
    torch.testing.assert_close(pmle.logp[0, 1], torch.full((5,), -np.log(5), dtype=torch.float64), rtol=0, atol=1e-9)
    assert max(dpo.gradient_norm.item(), pmle.gradient_norm.item()) <= CERTIFIED

"""Choosing a hyperparameter: against scipy on a fine grid, without the target where it must not be read."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from theory.errors import UserError
from theory.instances import Instance, random_instance
from theory.objectives import Terms, get, make
from theory.sampling import WinCounts, draw, population
from theory.simulation import Settings, floor, make_task, solve
from theory.solvers.options import Options
from theory.solvers.selection import GRID_HIGH, GRID_LOW, GRID_SIZE, Search, grid, held_out_loss
from theory.solvers.task import Fit


def _forward_kl(instance: Instance, logits: np.ndarray) -> float:
    log_ratio = np.log(instance.target) - log_softmax(logits, -1)
    return float((instance.context_weights[:, None] * instance.target * log_ratio).sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_floor_of_rlhf_is_the_least_over_beta(seed):
    """π_ref (π*)^{γ/β}/Z in numpy over β ∈ [1e-4, 1e2]: a 2,000-point grid, then Brent."""
    instance = random_instance(seed, vocab=6, contexts=4, gamma=1.5)

    def error(log_beta: float) -> float:
        return _forward_kl(instance, np.log(instance.reference) + instance.reward() / np.exp(log_beta))

    points = np.linspace(np.log(1e-4), np.log(1e2), 2_000)
    best = points[np.argmin([error(p) for p in points])]
    near = (max(best - 0.01, points[0]), min(best + 0.01, points[-1]))
    exact = minimize_scalar(error, bounds=near, method="bounded", options={"xatol": 1e-10}).fun
    found = floor(instance, Settings(get("rlhf")))
    assert exact - 1e-8 <= found <= exact + 1e-6
    assert found > 1e-4


def test_best_is_the_best_of_a_fine_grid_on_every_data_set():
    instance = random_instance(0, vocab=5, contexts=4)
    data = draw(instance, 3_000, 1, range(6))
    settings = Settings(get("rlhf"))
    task = make_task(instance, data, settings)
    outcome = solve(instance, task, settings)
    rewards, log_ref = task.reward_fit.reward.numpy(), np.log(instance.reference)
    for s in range(6):
        betas = np.geomspace(1e-4, 1e2, 2_000)
        least = min(_forward_kl(instance, log_ref + rewards[s] / b) for b in betas)
        assert outcome.forward_kl[s] <= least + 1e-6
        again = _forward_kl(instance, log_ref + rewards[s] / outcome.hyper["beta"][s])
        assert outcome.forward_kl[s] == pytest.approx(again, rel=1e-9)


@pytest.mark.parametrize("name", ["rkl", "pmle", "ipo", "drdo", "chipo"])
def test_best_is_no_worse_than_any_value_tried(name):
    """Also for methods without a closed form, solved along the path; drdo has nothing to tune."""
    instance = random_instance(1, vocab=4, contexts=2)
    settings = Settings(get(name))
    task = make_task(instance, draw(instance, 500, 1, range(3)), settings)
    outcome = solve(instance, task, settings)
    tuned = get(name).tuned
    if tuned is None:
        assert settings.searched is None
        return
    for value in (1e-3, 1e-2, 0.1, 1.0, 10.0):
        fixed = Settings(get(name), {tuned.name: value}, "fixed")
        assert (outcome.forward_kl <= solve(instance, task, fixed).forward_kl + 1e-8).all()


def _with_target(instance: Instance, target: np.ndarray) -> Instance:
    return Instance(target, instance.reference, instance.data_policy, instance.context_weights, instance.gamma)


@pytest.mark.parametrize("name", ["rlhf", "dpo", "pmle", "ipo", "rkl"])
def test_validation_never_reads_the_target(name):
    """Another target on the same data changes the score and nothing else."""
    instance = random_instance(0, vocab=4, contexts=3)
    other = _with_target(instance, random_instance(99, vocab=4, contexts=3).target)
    data = draw(instance, 2_000, 1, range(3))
    settings = Settings(get(name), rule="validation")
    a, b = (solve(world, make_task(world, data, settings), settings) for world in (instance, other))
    for key in a.hyper:
        np.testing.assert_array_equal(a.hyper[key], b.hyper[key])
    np.testing.assert_array_equal(a.logp, b.logp)
    assert (a.forward_kl != b.forward_kl).all()


def test_validation_of_a_data_set_does_not_depend_on_the_others():
    instance = random_instance(0, vocab=4, contexts=3)
    data = draw(instance, 2_000, 1, range(4))
    settings = Settings(get("rlhf"), rule="validation")
    together = solve(instance, make_task(instance, data, settings), settings)
    for k in (0, 3):
        alone = solve(instance, make_task(instance, data.seeds(slice(k, k + 1)), settings), settings)
        assert alone.hyper["beta"][0] == pytest.approx(together.hyper["beta"][k], rel=1e-6)


def test_validation_minimises_the_held_out_loss():
    """The chosen β, by scipy on the same division of the data: fit on the one part, score on the other."""
    instance = random_instance(2, vocab=4, contexts=2)
    task = make_task(instance, draw(instance, 4_000, 5), Settings(get("rlhf")))
    chosen = Search(get("rlhf"), [task]).validated({"beta": 0.05})
    rng = np.random.default_rng(np.random.SeedSequence(task.options.seed, spawn_key=(3,)))
    train, rest = task.divided(0.2, rng)
    reward, wins = train.reward_fit.reward[0].numpy(), rest.data.wins[0]

    def loss(log_beta: float) -> float:
        r = instance.gamma * log_softmax(np.log(instance.reference) + reward / np.exp(log_beta), -1)
        return float((wins * np.logaddexp(0, r[:, None, :] - r[:, :, None])).sum() / wins.sum())

    points = np.linspace(np.log(1e-4), np.log(1e2), 2_000)
    values = [loss(p) for p in points]
    assert loss(float(chosen.hyper["beta"].log())) <= min(values) + 1e-7


def test_the_population_validates_against_itself():
    instance = random_instance(2, vocab=4, contexts=2)
    settings = Settings(get("pmle"), rule="validation")
    outcome = solve(instance, make_task(instance, population(instance), settings), settings)
    assert outcome.hyper["beta"][0] == 0
    assert outcome.forward_kl[0] < 1e-10


def test_an_ensemble_keeps_the_member_with_the_least_total():
    instance = random_instance(3, vocab=4, contexts=3)
    task = make_task(instance, draw(instance, 300, 2, range(5)), Settings(get("e-dpo")))
    objective = get("e-dpo")
    hyper = {k: torch.full((5,), v, dtype=torch.float64) for k, v in objective.resolve({}).items()}
    best = Search(objective, [task]).at(objective.resolve({})).fits[0]
    rewards = task.rewards(objective)
    assert len(rewards) == 3
    assert not torch.equal(rewards[0], rewards[1])
    members = [task.iterate(objective, hyper, reward, task.log_ref) for reward in rewards]
    values = torch.stack([m.value for m in members])
    torch.testing.assert_close(best.value, values.min(0).values)
    for s, member in enumerate(values.argmin(0).tolist()):
        torch.testing.assert_close(best.logp[s], members[member].logp[s], rtol=0, atol=1e-7)
    assert len(set(values.argmin(0).tolist())) > 1


def test_held_out_loss_is_the_preference_models():
    """−log σ(γ Δlog π), the mean over held-out comparisons of all groups, by loops."""
    instance = random_instance(4, vocab=3, contexts=2, gamma=1.7)
    data = draw(instance, 60, 3)
    task = make_task(instance, data, Settings(get("dpo")))
    logp = torch.log_softmax(torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), -1)
    total = count = 0.0
    for x in range(2):
        for i in range(3):
            for j in range(3):
                w = data.wins[0, x, i, j]
                total += w * np.log1p(np.exp(-1.7 * float(logp[0, x, i] - logp[0, x, j])))
                count += w
    zeros = torch.zeros(1, dtype=torch.float64)
    score = held_out_loss([task, task])([Fit(logp, None, zeros, zeros, zeros)] * 2)
    assert score.item() == pytest.approx(total / count, rel=1e-12)


def test_grid():
    beta = get("rlhf").tuned
    values = grid(beta)
    assert len(values) == GRID_SIZE == 61
    assert values[0] == pytest.approx(GRID_HIGH)
    assert values[-1] == pytest.approx(GRID_LOW)
    assert sorted(values, reverse=True) == values
    assert grid(get("pmle").tuned)[-1] == 0
    assert len(grid(get("pmle").tuned)) == 61


def test_grid_without_a_value_in_range_is_refused():
    from typing import Annotated

    from theory.objectives import Hyper

    def far(pair, *, beta: Annotated[float, Hyper("weight", low=1e3)] = 2e3):
        return Terms(kl=beta)

    far.__annotations__["beta"] = Annotated[float, Hyper("weight", low=1e3)]
    with pytest.raises(UserError, match=r"--beta.*give one"):
        grid(make(far).tuned)


def test_starts_that_disagree_are_counted():
    """A loss with two minima at V = 2: its starts may part, and `agreeing` says how many reached the best."""

    def double_well(pair):
        return ((pair.logp_margin + 0.3) ** 2 - 4) ** 2

    instance = Instance(np.array([[0.5, 0.5]]), np.array([[0.05, 0.95]]))
    wins = WinCounts(np.array([[[[0.0, 1.0], [0.0, 0.0]]]]), np.ones((1, 1)), 1.0)
    settings = Settings(make(double_well), rule="fixed", options=Options(ridge=1e-3))
    chosen = Search(settings.objective, [make_task(instance, wins, settings)]).at({})
    assert chosen.kind == "local"
    assert 1 <= chosen.agreeing.item() < chosen.starts
    margin = float(chosen.fits[0].logp[0, 0, 0] - chosen.fits[0].logp[0, 0, 1])
    # ½·ridge·‖centred log-ratio‖² is ¼·ridge·(log-ratio margin)²; the reference's margin is −2.94.
    assert margin == pytest.approx(-2.3, abs=1e-2)

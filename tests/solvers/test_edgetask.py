"""The sparse path: the same numbers as the dense one on the same data, at every layer."""

import numpy as np
import pytest
import torch

from tests.solvers.twins import HYPER, TRAINS_A_HEAD
from theory.instances import random_instance
from theory.objectives import get, names
from theory.sampling import Edges, WinCounts, draw
from theory.simulation import Settings, make_task, solve
from theory.solvers.edges import EdgeProblem, truncated_newton
from theory.solvers.edgetask import EdgeTask
from theory.solvers.options import Options
from theory.solvers.selection import Search
from theory.solvers.tabletask import TableTask

CASES = [(name, head) for name in names() for head in ("separate", "tied") if head == "separate" or name in TRAINS_A_HEAD]


def _edges(data: WinCounts) -> Edges:
    context, chosen, rejected = np.nonzero(data.wins[0])
    count = data.wins[0][context, chosen, rejected]
    return Edges(context, chosen, rejected, count, data.totals[0], data.wins.shape[-1], data.n)


@pytest.fixture(scope="module")
def both():
    instance = random_instance(8, vocab=6, contexts=3, gamma=1.2)
    return instance, draw(instance, 1_500, seed=3)


def _tasks(both, **options) -> tuple[TableTask, EdgeTask]:
    instance, data = both
    chosen = Settings(get("dpo"), options=Options(**options))
    dense, sparse = (make_task(instance, d, chosen) for d in (data, _edges(data)))
    assert isinstance(dense, TableTask)
    assert isinstance(sparse, EdgeTask)
    return dense, sparse


# An ensemble's two paths draw different resamples; they are compared on the true reward, and below.
WITH_ORACLE = [(*case, "learned") for case in CASES if get(case[0]).ensemble == 1]
WITH_ORACLE += [(*case, "true") for case in CASES if get(case[0]).needs_reward]


@pytest.mark.parametrize(("name", "head", "oracle"), WITH_ORACLE)
def test_the_same_policy_as_the_table(both, name, head, oracle):
    objective = get(name)
    dense, sparse = _tasks(both, reward_head=head, oracle=oracle)
    values = objective.resolve(HYPER[name])
    a, b = (Search(objective, [task]).at(values) for task in (dense, sparse))
    torch.testing.assert_close(a.fits[0].logp, b.fits[0].logp, rtol=0, atol=1e-7)
    # A context's value is weighted by its share on the table, and each context counts once on edges.
    assert b.fits[0].gradient_norm.item() <= 1e-8
    assert a.kind == b.kind
    if a.fits[0].student is not None:
        torch.testing.assert_close(a.fits[0].reward, b.fits[0].reward, rtol=0, atol=1e-7)


def test_an_ensemble_on_one_reward(both):
    dense, sparse = _tasks(both)
    hyper = {name: torch.tensor([v], dtype=torch.float64) for name, v in HYPER["e-dpo"].items()}
    reward = dense.reward_fit.reward
    a, b = (task.iterate(get("e-dpo"), hyper, reward, task.log_ref) for task in (dense, sparse))
    torch.testing.assert_close(a.logp, b.logp, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("name", "head"), CASES)
def test_gradient_and_product_of_one_point(both, name, head):
    """The linearisation against the dense problem's, whose derivatives autograd has checked."""
    dense, sparse = _tasks(both, reward_head=head, ridge=3.0)
    objective = get(name)
    hyper = {k: torch.tensor([v], dtype=torch.float64) for k, v in HYPER[name].items()}
    reward = dense.reward_fit.reward if objective.needs_reward else None
    table, edge = dense.problem(objective, hyper, reward), sparse._problem(objective, hyper, reward)
    assert table.variables == edge.variables
    contexts, vocab = 3, 6
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((len(edge.variables), contexts, vocab))
    flat = parts.ravel()
    stacked = torch.from_numpy(parts.transpose(1, 0, 2).reshape(contexts, -1).copy())
    values, gradients, hessians = table.evaluate(stacked)
    point = edge.at(flat)
    assert point.value == pytest.approx(values.sum().item(), rel=1e-11)

    def rows(flat_vector):
        return flat_vector.reshape(len(edge.variables), contexts, vocab).transpose(1, 0, 2).reshape(contexts, -1)

    np.testing.assert_allclose(rows(point.gradient), gradients.numpy(), atol=1e-11)
    direction = rng.standard_normal(flat.size)
    expected = np.einsum("xde,xe->xd", hessians.numpy(), rows(direction))
    np.testing.assert_allclose(rows(point.product(direction)), expected, atol=1e-10)


def test_data_layer_agrees(both):
    dense, sparse = _tasks(both)
    logp = torch.log_softmax(torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64), -1)
    torch.testing.assert_close(dense.log_loss(logp), sparse.log_loss(logp))
    assert dense.comparisons().item() == sparse.comparisons().item()
    np.testing.assert_array_equal(dense.graph().drained, sparse.graph().drained)


def test_existence_agrees_on_few_data():
    instance = random_instance(8, vocab=6, contexts=3)
    for seed in range(5):
        data = draw(instance, 25, seed=seed)
        for name in ("dpo", "sft", "drdo", "rkl", "ipo", "d-dpo"):
            chosen = Settings(get(name), rule="fixed")
            outcomes = [solve(instance, make_task(instance, d, chosen), chosen) for d in (data, _edges(data))]
            np.testing.assert_array_equal(outcomes[0].vanishing, outcomes[1].vanishing)
            if name == "d-dpo":  # no ridge: its minimiser is not unique where the comparisons are not connected
                continue
            np.testing.assert_allclose(outcomes[0].forward_kl, outcomes[1].forward_kl, rtol=1e-4, atol=1e-6)


def test_bootstrap_and_division_conserve(both):
    _, sparse = _tasks(both)
    resampled = sparse.resampled(np.random.default_rng(0))
    ties = sparse.data.totals - np.bincount(sparse.data.context, sparse.data.count, minlength=3)
    informative = np.bincount(resampled.data.context, resampled.data.count, minlength=3)
    assert (informative <= sparse.data.totals).all()
    assert abs(informative - (sparse.data.totals - ties)).max() < 6 * np.sqrt(sparse.data.totals.max())
    train, rest = sparse.divided(0.3, np.random.default_rng(0))
    np.testing.assert_array_equal(train.data.count + rest.data.count, sparse.data.count)
    np.testing.assert_array_equal(train.data.totals + rest.data.totals, sparse.data.totals)


def test_log_linear_classes_are_refused(both):
    from theory.errors import UserError

    instance, data = both
    with_features = instance.with_features(np.random.default_rng(0).standard_normal((3, 6, 2)))
    with pytest.raises(UserError, match="log-linear"):
        make_task(with_features, _edges(data), Settings(get("dpo"), policy_class="log-linear"))


def test_a_context_without_data(both):
    instance, data = both
    wins, totals = data.wins.copy(), data.totals.copy()
    wins[:, 1], totals[:, 1] = 0, 0
    chosen = Settings(get("dpo"))
    task = make_task(instance, _edges(WinCounts(wins, totals, totals.sum())), chosen)
    fit = Search(get("dpo"), [task]).at({"beta": 0.1}).fits[0]
    torch.testing.assert_close(fit.logp[0, 1], task.log_ref[0, 1], rtol=0, atol=1e-8)


def test_truncated_newton_reports_running_out(both):
    _, sparse = _tasks(both)
    problem = sparse._problem(get("pmle"), {"beta": torch.tensor([0.1], dtype=torch.float64)}, None)
    assert isinstance(problem, EdgeProblem)
    found = truncated_newton(problem, problem.start(sparse.log_ref[0]), limit=2)
    assert found.iterations == 2
    assert found.gradient_norm > 1e-8

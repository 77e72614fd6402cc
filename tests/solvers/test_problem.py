"""The assembled problem of every objective: its value by loops over pairs, its derivatives by autograd."""

import numpy as np
import pytest
import torch

from tests.solvers.twins import HYPER, LOSSES, TRAINS_A_HEAD, torch_value, value
from theory.objectives import get, names
from theory.solvers.problem import CHUNK, Problem

GAMMA, VOCAB, CONTEXTS, SIZE = 1.4, 4, 2, 3
HEADS = ["separate", "tied"]


def test_every_objective_has_a_twin():
    assert set(names()) == set(LOSSES)


def _numbers(seed: int, contexts: int, size: int = SIZE) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    wins = rng.integers(0, 6, (size, contexts, VOCAB, VOCAB)).astype(float)
    wins[..., np.arange(VOCAB), np.arange(VOCAB)] = 0
    ties = rng.integers(0, 5, (size, contexts))
    tables = {
        "frequencies": wins / (wins.sum((-1, -2)) + ties)[..., None, None],
        "weights": rng.dirichlet(np.ones(contexts), size) if contexts > 1 else np.ones((size, contexts)),
        "ridge": rng.random((size, contexts)) * 0.3,
        "log_ref": np.log(rng.dirichlet(np.ones(VOCAB), (size, contexts))),
        "reward": rng.standard_normal((size, contexts, VOCAB)),
    }
    return {name: torch.from_numpy(t) for name, t in tables.items()}


def _problem(name: str, head: str, numbers: dict[str, torch.Tensor], features=None) -> Problem:
    objective = get(name)
    size = numbers["ridge"].shape[0]
    hyper = {k: torch.full((size,), v, dtype=torch.float64) for k, v in HYPER[name].items()}
    tied = head == "tied" and objective.reads("logp")
    return Problem(objective, GAMMA, hyper, **numbers, tied=tied, policy_features=features, student_features=features)


def _cases() -> list[tuple[str, str]]:
    return [(name, head) for name in names() for head in HEADS if head == "separate" or name in TRAINS_A_HEAD]


def _differentiable(problem: Problem, theta: torch.Tensor, k: int, features=None) -> torch.Tensor:
    """Problem k's value as one torch expression of its parameters."""
    parts = dict(zip(problem.variables, theta.split(problem.sizes, -1), strict=True))
    total = torch.zeros((), dtype=torch.float64)
    for x in range(problem.log_ref.shape[1]):
        tables = {v: part if features is None else features[x] @ part for v, part in parts.items()}
        alone = torch_value(
            problem.objective,
            GAMMA,
            HYPER[problem.objective.name],
            problem.frequencies[k, x],
            problem.log_ref[k, x],
            problem.reward[k, x],
            tables.get("policy"),
            tables.get("student"),
            float(problem.ridge[k, x]),
            problem.tied,
        )
        total = total + problem.weights[k, x] * alone
    return total


@pytest.mark.parametrize("log_linear", [False, True], ids=["table", "log-linear"])
@pytest.mark.parametrize(("name", "head"), _cases())
def test_value_and_derivatives(name, head, log_linear):
    numbers = _numbers(sorted(LOSSES).index(name), CONTEXTS if log_linear else 1)
    generator = torch.Generator().manual_seed(7)
    features = torch.randn((CONTEXTS, VOCAB, 3), generator=generator, dtype=torch.float64) if log_linear else None
    problem = _problem(name, head, numbers, features)
    theta = torch.randn((SIZE, sum(problem.sizes)), generator=generator, dtype=torch.float64)
    found, gradient, second = problem.evaluate(theta)
    tables = problem.tables(theta)
    for k in range(SIZE):
        looped = 0.0
        for x in range(problem.log_ref.shape[1]):
            arrays = {v: tables[v][k, x].numpy() if v in tables else None for v in ("policy", "student")}
            looped += float(problem.weights[k, x]) * value(
                name,
                GAMMA,
                HYPER[name],
                problem.frequencies[k, x].numpy(),
                problem.log_ref[k, x].numpy(),
                problem.reward[k, x].numpy(),
                arrays["policy"],
                arrays["student"],
                float(problem.ridge[k, x]),
                problem.tied,
            )
        assert float(found[k]) == pytest.approx(looped, rel=1e-11, abs=1e-12)
        leaf = theta[k].clone().requires_grad_()
        smooth = _differentiable(problem, leaf, k, features)
        assert smooth.item() == pytest.approx(looped, rel=1e-11, abs=1e-12)
        (expected,) = torch.autograd.grad(smooth, leaf)
        torch.testing.assert_close(gradient[k], expected, rtol=1e-9, atol=1e-11)
        twice = torch.autograd.functional.hessian(lambda t, k=k: _differentiable(problem, t, k, features), theta[k])
        torch.testing.assert_close(second[k], twice, rtol=1e-8, atol=1e-10)


def test_variables_are_what_an_objective_trains():
    numbers = _numbers(0, 1)
    trained = {(name, head): _problem(name, head, numbers).variables for name, head in _cases()}
    for (name, head), found in trained.items():
        student = name in TRAINS_A_HEAD and (head == "separate" or name == "reward")
        assert ("student" in found) == student
        assert ("policy" in found) == (name != "reward")


@pytest.mark.parametrize("name", ["pmle", "drdo"])
def test_chunks_change_nothing(name):
    """A batch larger than one chunk gives what its problems give alone."""
    size = CHUNK // VOCAB**2 + 5
    numbers = _numbers(11, 1, size)
    problem = _problem(name, "separate", numbers)
    theta = torch.randn((size, sum(problem.sizes)), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = problem.evaluate(theta)
    for k in (0, size - 6, size - 1):
        alone = problem.take(torch.tensor([k])).evaluate(theta[k : k + 1])
        for a, b in zip(whole, alone, strict=True):
            torch.testing.assert_close(a[k], b[0], rtol=1e-12, atol=1e-14)


def test_pairs_never_seen_may_have_an_infinite_loss():
    """drdo's log(1 − π(y_l)) is −∞ at π(y_l) = 1; where the pair was not drawn it must not matter."""
    numbers = _numbers(3, 1, 1)
    numbers["frequencies"][0, 0, :, 0] = 0  # response 0 never loses
    problem = _problem("drdo", "separate", numbers)
    theta = torch.tensor([[800.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    for part in problem.evaluate(theta):
        assert torch.isfinite(part).all()


def test_start_of_a_log_linear_class_is_its_nearest_policy():
    generator = torch.Generator().manual_seed(5)
    features = torch.randn((CONTEXTS, VOCAB, 3), generator=generator, dtype=torch.float64)
    problem = _problem("dpo", "separate", _numbers(1, CONTEXTS), features)
    w = torch.randn((SIZE, 3), generator=generator, dtype=torch.float64)
    inside = torch.log_softmax(torch.einsum("xvd,sd->sxv", features, w), -1)
    torch.testing.assert_close(problem.start(inside), w)

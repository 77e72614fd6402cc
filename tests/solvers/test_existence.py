"""Existence of finite minimisers: by linear programming, by shrinking the ridge, and by one-dimensional minimisation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog, minimize_scalar

from theory.instances import Instance, random_instance
from theory.objectives import Terms, get, make
from theory.sampling import WinCounts
from theory.simulation import Settings, make_task, solve
from theory.solvers.drain import Drain
from theory.solvers.existence import WinGraph, tails
from theory.solvers.options import Options
from theory.solvers.selection import Search

# --- Which Bradley–Terry fits are finite, by linear programming. -----------------------------------


def _largest_gap(wins: np.ndarray, i: int, j: int) -> float:
    """max d_i − d_j over directions d ∈ [−1, 1]^V along which no comparison's loss grows."""
    edges = np.argwhere(wins > 0)
    constraints = np.zeros((len(edges), len(wins)))
    for row, (winner, loser) in enumerate(edges):
        constraints[row, loser] += 1
        constraints[row, winner] -= 1
    cost = np.zeros(len(wins))
    cost[i], cost[j] = -1, 1
    found = linprog(cost, constraints if len(edges) else None, np.zeros(len(edges)) if len(edges) else None, bounds=(-1, 1))
    assert found.status == 0
    return -found.fun


def _drained_by_lp(wins: np.ndarray) -> np.ndarray:
    """k is drained if some comparison won over k, or over a response tied to k, improves without end.

    Along a direction of recession the loss of i ≻ j falls for ever iff d_i > d_j; k is tied to j when
    no direction separates them and data connect them.
    """
    size = len(wins)
    gap = np.array([[0.0 if i == j else _largest_gap(wins, i, j) for j in range(size)] for i in range(size)]) > 1e-9
    drained = np.zeros(size, bool)
    for i, j in np.argwhere(wins > 0):
        if gap[i, j]:
            drained |= ~gap[j] & ~gap[:, j]
    return drained


_graphs = st.integers(2, 4).flatmap(lambda v: arrays(np.int64, (v, v), elements=st.integers(0, 1)))


@settings(max_examples=60)
@given(_graphs)
def test_drained_equals_separability(wins):
    np.fill_diagonal(wins, 0)
    found = WinGraph.of_table(wins[None].astype(float)).drained[0]
    np.testing.assert_array_equal(found, _drained_by_lp(wins))


def test_every_graph_of_three_responses():
    """All 64 directed graphs at once: a batch keeps its contexts apart."""
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    wins = np.zeros((64, 3, 3))
    for code in range(64):
        for bit, (i, j) in enumerate(pairs):
            wins[code, i, j] = code >> bit & 1
    found = WinGraph.of_table(wins).drained
    np.testing.assert_array_equal(found, np.stack([_drained_by_lp(w) for w in wins]))


def test_graph_properties_by_hand():
    """0 ⇄ 1 → 2 → 3, and 4 never compared."""
    wins = np.zeros((1, 5, 5))
    for i, j in ((0, 1), (1, 0), (1, 2), (2, 3)):
        wins[0, i, j] = 3
    graph = WinGraph.of_table(wins)
    assert graph.drained[0].tolist() == [False, False, True, True, False]
    assert graph.won[0].tolist() == [True, True, True, False, False]
    assert graph.lost[0].tolist() == [True, True, True, True, False]
    assert graph.kept[0].tolist() == [True, True, False, False, False]


# --- What vanishes when the ridge does. -------------------------------------------------------------

RIDGES = (1e-2, 1e-5, 1e-8, 1e-10)


def _data(wins: np.ndarray) -> WinCounts:
    counts = np.asarray(wins, float)[None, None]
    totals = counts.sum((-1, -2)) + 2
    return WinCounts(counts, totals, float(totals.sum()))


def _path(name: str, wins: np.ndarray, values: dict[str, float], **options) -> tuple[np.ndarray, np.ndarray]:
    """log π̂ at every ridge, shape (ridges, V), and the reported vanishing responses."""
    objective = get(name)
    instance = random_instance(3, vocab=len(wins), contexts=1)
    policies = []
    for ridge in RIDGES:
        chosen = Settings(objective, values, "fixed", Options(ridge=ridge, **options))
        task = make_task(instance, _data(wins), chosen)
        found = Search(objective, [task]).at(objective.resolve(values))
        policies.append(found.fits[0].logp[0, 0].numpy())
    return np.array(policies), task.vanishing(objective, found.hyper)[0, 0]


def _wins(size: int, *edges: tuple[int, int]) -> np.ndarray:
    table = np.zeros((size, size))
    for i, j in edges:
        table[i, j] += 1 + (i + 2 * j) % 3
    return table


# Graphs with one component that nothing drains (and for sft any graph), so that the minimising
# sequence is the loss's alone and not the ridge's choice.
UNIQUE = {
    "pair": _wins(2, (0, 1)),
    "chain": _wins(3, (0, 1), (1, 2)),
    "cycle above": _wins(4, (0, 1), (1, 2), (2, 0), (1, 3)),
    "cycle below": _wins(4, (3, 0), (0, 1), (1, 2), (2, 0)),
    "two and two": _wins(4, (0, 1), (1, 0), (1, 2), (2, 3), (3, 2)),
    "both ways": _wins(3, (0, 1), (1, 0), (1, 2), (2, 1)),
    "star": _wins(4, (2, 0), (2, 1), (2, 3)),
}


@pytest.mark.parametrize("graph", UNIQUE)
@pytest.mark.parametrize(
    ("name", "values"),
    [("dpo", {"beta": 0.5}), ("pmle", {"beta": 0.0}), ("simpo", {}), ("reward", {}), ("rkl", {}), ("rlhf", {"beta": 0.5})],
)
def test_bradley_terry_methods_drain_what_is_beaten_from_outside(graph, name, values):
    wins = UNIQUE[graph]
    path, reported = _path(name, wins, values)
    np.testing.assert_array_equal(reported, _drained_by_lp(wins))
    assert (path[-1, reported] < path[0, reported] - 4).all()
    assert (np.diff(path[:, reported], axis=0) < -0.5).all()
    assert (path[-1, ~reported] > -6).all()
    assert (abs(path[-1, ~reported] - path[-2, ~reported]) < 0.05).all()


@pytest.mark.parametrize("graph", UNIQUE)
def test_sft_drains_what_never_won(graph):
    wins = UNIQUE[graph]
    path, reported = _path("sft", wins, {})
    np.testing.assert_array_equal(reported, wins.sum(1) == 0)
    assert (np.diff(path[:, reported], axis=0) < -2).all()
    winners = wins.sum(1)[~reported] / wins.sum()
    np.testing.assert_allclose(np.exp(path[-1, ~reported]), winners, atol=1e-6)


@pytest.mark.parametrize("graph", UNIQUE)
def test_drdo_drains_what_reaches_no_cycle(graph):
    """The focal term drives a loser down for ever unless a chain of wins from it reaches a cycle."""
    wins = UNIQUE[graph]
    path, reported = _path("drdo", wins, {"alpha": 1.0}, oracle="true")
    if graph == "pair":  # the focal term is identically zero at V = 2
        return
    assert (np.diff(path[:, reported], axis=0) < -0.3).all()
    assert (path[-1, ~reported] > -6).all()
    assert (abs(path[-1, ~reported] - path[-2, ~reported]) < 0.1).all()


def test_drdo_by_hand():
    for graph, expected in (("cycle above", [0, 0, 0, 1]), ("cycle below", [0, 0, 0, 0]), ("two and two", [0, 0, 0, 0])):
        assert _path("drdo", UNIQUE[graph], {}, oracle="true")[1].tolist() == [bool(e) for e in expected], graph


@pytest.mark.parametrize("name", ["ipo", "p-dpo", "d-dpo", "dp-dpo", "rebel", "pref-distill"])
@pytest.mark.parametrize("graph", ["pair", "chain", "star"])
def test_what_never_drains_at_finite_rewards(name, graph):
    values = {"lambda_": 0.5} if name in ("p-dpo", "dp-dpo") else {}
    path, reported = _path(name, UNIQUE[graph], values, oracle="true")
    assert not reported.any()
    np.testing.assert_allclose(path[-1], path[-2], atol=1e-4)


@pytest.mark.parametrize("graph", ["pair", "chain", "star"])
def test_chipo_stops_at_its_clip(graph):
    """Beyond a margin of 2R = 4 nothing is gained: however small the ridge, margins stay about there.

    The minimum sits on the clip's kink, where no gradient vanishes; a step across it may overshoot.
    """
    wins = UNIQUE[graph]
    path, reported = _path("chipo", wins, {"beta": 0.5, "r_max": 2.0})
    assert not reported.any()
    log_ref = np.log(random_instance(3, vocab=len(wins), contexts=1).reference[0])
    link = np.exp(path - log_ref) + path - log_ref
    for i, j in np.argwhere(wins > 0):
        margins = 0.5 * (link[:, i] - link[:, j])
        assert (margins < 8).all()
        assert margins[-1] > 3.9


@pytest.mark.parametrize("name", ["rkl", "rlhf", "d-dpo", "dp-dpo", "e-dpo", "rebel", "pref-distill"])
@pytest.mark.parametrize("graph", ["pair", "chain", "cycle below", "two and two", "both ways"])
def test_methods_of_a_learned_reward_drain_where_it_is_infinite(name, graph):
    """With the true reward nothing drains; with a learned one, what its fit sends to −∞."""
    values = {"pref-distill": {"beta": 0.0}, "rkl": {}, "rebel": {}}.get(name, {"beta": 0.5})
    wins = UNIQUE[graph]
    assert not _path(name, wins, values, oracle="true")[1].any()
    path, reported = _path(name, wins, values)
    np.testing.assert_array_equal(reported, _drained_by_lp(wins))
    if name != "e-dpo":  # its rewards are fitted to resamples, with graphs of their own
        assert (np.diff(path[:, reported], axis=0) < -0.5).all()
        assert (abs(path[-1, ~reported] - path[-2, ~reported]) < 0.05).all()


def test_tied_drdo_follows_a_learned_reward_to_infinity():
    path, reported = _path("drdo", UNIQUE["chain"], {}, reward_head="tied")
    assert reported.tolist() == [False, True, True]
    assert (np.diff(path[:, 1:], axis=0) < -1).all()
    assert not _path("drdo", UNIQUE["chain"], {}, reward_head="tied", oracle="true")[1].any()


def test_a_context_without_data_drains_nothing():
    for name in ("dpo", "sft", "drdo", "rkl", "simpo"):
        path, reported = _path(name, np.zeros((3, 3)), {})
        assert not reported.any()
        assert (path > -10).all()


def test_rlhf_without_a_regulariser_collapses():
    """rkl's α → 0 is not allowed, so a made-up objective: −E[r] alone goes to argmax r̂."""

    def greedy(pair):
        return Terms(reward=1.0)

    instance = random_instance(3, vocab=3, contexts=2)
    chosen = Settings(make(greedy), {}, "fixed", Options(oracle="true"))
    task = make_task(instance, WinCounts(np.ones((1, 2, 3, 3)) - np.eye(3), np.full((1, 2), 6.0), 12.0), chosen)
    expected = instance.target < instance.target.max(1, keepdims=True)
    np.testing.assert_array_equal(task.vanishing(make(greedy), {})[0], expected)


# --- The tails of a loss. ----------------------------------------------------------------------------


def _tails(name: str, gamma: float = 1.0, **values: float):
    hyper = {k: torch.tensor([v], dtype=torch.float64) for k, v in get(name).resolve(values).items()}
    drain = Drain(get(name), hyper, gamma, Options(oracle="true"))
    return tails(drain._loss(0.0), 1)


@pytest.mark.parametrize(
    ("name", "gamma", "values", "exponent"),
    [
        ("dpo", 1.0, {"beta": 0.05}, 0.05),
        ("dpo", 1.0, {"beta": 3.0}, 3.0),
        ("hypo", 1.0, {"beta": 0.4}, 0.4),
        ("pmle", 0.5, {}, 0.5),
        ("pmle", 2.0, {}, 2.0),
        ("simpo", 1.0, {"beta": 2.0}, 2.0),
        ("drdo", 1.0, {"gamma_f": 2.0}, 2.0),
        ("drdo", 1.0, {"gamma_f": 0.7}, 0.7),
    ],
)
def test_exponents(name, gamma, values, exponent):
    found = _tails(name, gamma, **values)
    assert found.exponent[0] == pytest.approx(exponent, rel=1e-6)
    assert found.inverted[0]
    assert not found.separated[0]
    assert bool(found.level[0]) == (name == "drdo")


def test_tails_that_have_no_exponent():
    ipo, sft, chipo = _tails("ipo"), _tails("sft"), _tails("chipo")
    assert ipo.separated[0]
    assert not ipo.level[0]
    assert sft.level[0]
    assert sft.chain[0]
    assert math.isinf(sft.exponent[0])
    assert chipo.separated[0]  # it stops falling at the clip


def test_tails_of_a_batch_are_those_of_its_members():
    def loss(beta):
        return lambda w, l: torch.nn.functional.softplus(-beta * (w - l))  # noqa: E741

    betas = torch.tensor([0.1, 0.9, 4.0], dtype=torch.float64)
    np.testing.assert_allclose(tails(loss(betas), 3).exponent, betas, rtol=1e-6)


# --- One separable pair, minimised in log ε by scipy. -------------------------------------------------


def _least(loss, weight: float, kl: float, forward: float, reference: float) -> float:
    """log ε of the best ε = π(loser) ≤ ½ for ℓ(log ratio) + kl·KL(π‖π_ref) + forward·KL(π_ref‖π), V = 2."""

    def value(log_eps: float) -> float:
        log_p = math.log1p(-math.exp(log_eps))
        p, eps = math.exp(log_p), math.exp(log_eps)
        on_policy = p * (log_p - math.log(1 - reference)) + eps * (log_eps - math.log(reference))
        off = -(1 - reference) * log_p - reference * log_eps
        return weight * loss(log_p - log_eps) + kl * on_policy + forward * off

    starts = -np.geomspace(0.7, 700, 4000)
    best = min(starts, key=value)
    found = minimize_scalar(value, bounds=(best * 1.1, best / 1.1), method="bounded", options={"xatol": 1e-9})
    return found.x if found.fun < value(best) else best


def _softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


CASES = [
    # name, γ, hyperparameters, drains
    ("pmle", 1.0, {"beta": 0.3}, False),
    ("pmle", 2.0, {"beta": 0.3}, False),
    ("pmle", 0.5, {"beta": 0.05}, True),
    ("pmle", 0.5, {"beta": 0.0}, True),
    ("hypo", 1.0, {"beta": 0.05, "kl": 0.01}, True),
    ("hypo", 1.0, {"beta": 1.2, "kl": 0.3}, False),
    ("p-dpo", 1.0, {"beta": 0.05, "lambda_": 0.01}, False),
    ("p-dpo", 1.0, {"beta": 2.0, "lambda_": 0.01}, False),
    ("p-dpo", 1.0, {"beta": 0.5, "lambda_": 0.0}, True),
]


@pytest.mark.parametrize(("name", "gamma", "values", "drains"), CASES)
def test_one_separable_pair_by_scipy(name, gamma, values, drains):
    """ε stays well inside (0, ½) when finite; when it drains the least value is at an ε that float64 calls 0."""
    reference = 0.4
    slope = gamma if name == "pmle" else values["beta"]
    shift = 0.0 if name == "pmle" else math.log((1 - reference) / reference)
    kl = {"pmle": values["beta"], "hypo": values.get("kl", 0.0)}.get(name, 0.0)
    weight = 0.5  # one of the two comparisons was a tie
    log_eps = _least(lambda m: _softplus(-slope * (m - shift)), weight, kl, values.get("lambda_", 0.0), reference)
    assert (log_eps < -60) == drains
    rows = np.array([[1 - reference, reference]])
    instance = Instance(rows, rows, gamma=gamma)
    chosen = Settings(get(name), values, "fixed", Options(ridge=0.0 if not drains else 1e-8))
    task = make_task(instance, WinCounts(np.array([[[[0.0, 1.0], [0.0, 0.0]]]]), np.array([[2.0]]), 2.0), chosen)
    outcome = solve(instance, task, chosen)
    assert outcome.vanishing[0, 0].tolist() == [False, drains]
    assert outcome.finite[0] == (not drains)
    if not drains:
        assert outcome.logp[0, 0, 1] == pytest.approx(log_eps, abs=1e-3)
        assert outcome.gradient_norm[0] <= 1e-8


def test_without_a_ridge_a_drained_fit_has_infinite_kl():
    """The finite numbers of a diverging iteration are never passed off as an estimate."""
    instance = random_instance(3, vocab=3, contexts=1)
    chosen = Settings(get("dpo"), {}, "fixed", Options(ridge=0.0))
    outcome = solve(instance, make_task(instance, _data(UNIQUE["chain"]), chosen), chosen)
    assert math.isinf(outcome.forward_kl[0])
    assert math.isnan(outcome.reverse_kl[0])
    assert not outcome.finite[0]

"""Losses that fall without bound: slopes by hand, flights by trying every set, and tasks with a known threshold."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from torch.nn.functional import logsigmoid, relu, softplus

from theory.instances import random_instance
from theory.objectives import Terms, get, make
from theory.sampling import WinCounts, population
from theory.simulation import Settings, make_task, solve
from theory.solvers.drain import Drain
from theory.solvers.options import Options
from theory.solvers.recession import Slopes, sinking, slopes

# --- Slopes at infinity, by hand. ---------------------------------------------------------------------

# Change per nat when the winner's log-probability sinks alone, the loser's alone, both together.
KNOWN = {
    "-margin": (lambda w, l: -(w - l), (1, -1, 0)),  # noqa: E741
    "-log of the winner": (lambda w, l: -w, (1, 0, 1)),  # noqa: E741
    "log of the loser": (lambda w, l: l, (0, -1, -1)),  # noqa: E741
    "unlikelihood too": (lambda w, l: -w + 0.25 * l, (1, -0.25, 0.75)),  # noqa: E741
    "logistic": (lambda w, l: -logsigmoid(0.3 * (w - l)), (0.3, 0, 0)),  # noqa: E741
    "hinge": (lambda w, l: relu(1 - (w - l)), (1, 0, 0)),  # noqa: E741
    "leaking hinge": (lambda w, l: relu(1 - (w - l)) - 0.1 * (w - l), (1.1, -0.1, 0)),  # noqa: E741
    "sigmoid": (lambda w, l: -torch.sigmoid(w - l), (0, 0, 0)),  # noqa: E741
    "constant": (lambda w, l: torch.full_like(w, 7.0), (0, 0, 0)),  # noqa: E741
}


@pytest.mark.parametrize("name", KNOWN)
def test_slopes_by_hand(name):
    loss, expected = KNOWN[name]
    found = slopes(loss, 1)
    assert np.array([found.winner[0], found.loser[0], found.both[0]]) == pytest.approx(np.array(expected, float), abs=1e-9)
    assert found.falls[0] == (min(expected) < 0)


def test_what_grows_faster_than_any_line_does_not_fall():
    square = slopes(lambda w, l: (w - l - 1) ** 2, 1)  # noqa: E741
    exponential = slopes(lambda w, l: torch.exp(l - w), 1)  # noqa: E741
    assert square.winner[0] > 1e5
    assert square.loser[0] > 1e5
    assert square.both[0] == 0
    assert exponential.winner[0] == np.inf
    assert exponential.loser[0] == exponential.both[0] == 0
    assert not square.falls[0]
    assert not exponential.falls[0]


@pytest.mark.parametrize("loss", [lambda w, l: -((w - l) ** 2), lambda w, l: -torch.log1p(softplus(w - l))])  # noqa: E741
def test_what_falls_faster_or_slower_than_a_line_falls(loss):
    assert slopes(loss, 1).loser[0] < 0


def test_slopes_of_many_settings_are_those_of_each():
    weights = torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64)
    found = slopes(lambda w, l: -weights * (w - l), 3)  # noqa: E741
    np.testing.assert_allclose(found.winner, [0.5, -2.0, 0.0])
    np.testing.assert_allclose(found.loser, [-0.5, 2.0, 0.0])
    assert found.falls.tolist() == [True, True, False]
    np.testing.assert_allclose(found.take(np.array([2, 0])).winner, [0.0, 0.5])


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("dpo", {"beta": 0.05}, (0.05, 0, 0)),
        ("dpo", {"beta": 3.0}, (3, 0, 0)),
        ("pmle", {}, (2, 0, 0)),  # γ = 2
        ("sft", {}, (1, 0, 1)),
        ("simpo", {"beta": 1.5}, (1.5, 0, 0)),
    ],
)
def test_slopes_of_registered_objectives(name, values, expected):
    objective = get(name)
    hyper = {k: torch.tensor([v], dtype=torch.float64) for k, v in objective.resolve(values).items()}
    found = slopes(Drain(objective, hyper, 2.0, Options(oracle="true"))._loss(0.0), 1)
    assert (found.winner[0], found.loser[0], found.both[0]) == pytest.approx(expected, abs=1e-9)
    assert not found.falls[0]


# --- Which responses sink: every set, one by one. -------------------------------------------------------


def _cost(sunk, wins, winner, loser, both, barrier) -> float:
    """Change of the objective for each nat by which the responses ``sunk`` sink together."""
    total = sum(barrier[i] for i in sunk)
    for i in range(len(wins)):
        for j in range(len(wins)):
            slope = {(True, False): winner, (False, True): loser, (True, True): both}.get((i in sunk, j in sunk), 0.0)
            total += wins[i, j] * slope
    return total


def _cheapest(wins, winner, loser, both, barrier) -> float:
    size = len(wins)
    proper = (set(sunk) for k in range(1, size) for sunk in combinations(range(size), k))
    return min(_cost(sunk, wins, winner, loser, both, barrier) for sunk in proper)


def _slopes(winner: float, loser: float, both: float, batch: int = 1) -> Slopes:
    return Slopes(*(np.full(batch, value, dtype=float) for value in (winner, loser, both)))


def _sunk(wins, winner, loser, both, barrier=None) -> set[int]:
    wins = np.asarray(wins, float)
    barrier = np.zeros(len(wins)) if barrier is None else np.asarray(barrier, float)
    (found,) = sinking(wins[None], _slopes(winner, loser, both), barrier[None])
    return set(np.flatnonzero(found).tolist())


# Whole numbers: sums are exact, so that a fall of exactly 0 is 0.
_tables = st.integers(2, 5).flatmap(lambda v: arrays(np.int64, (v, v), elements=st.integers(0, 6)))
_slope = st.integers(-3, 3)


@given(_tables, _slope, _slope, _slope, st.integers(0, 4))
def test_sinking_is_the_cheapest_set_of_all(wins, winner, loser, both, weight):
    np.fill_diagonal(wins, 0)
    barrier = weight * (1.0 + np.arange(len(wins)))
    least = _cheapest(wins, winner, loser, both, barrier)
    sunk = _sunk(wins, winner, loser, both, barrier)
    if least >= 0:
        assert sunk == set()
    else:
        assert 0 < len(sunk) < len(wins)
        assert _cost(sunk, wins, winner, loser, both, barrier) == least


@given(_tables, st.permutations(range(5)), _slope, _slope)
def test_renaming_the_responses_renames_the_sunk(wins, names, winner, loser):
    np.fill_diagonal(wins, 0)
    order = [name for name in names if name < len(wins)]
    barrier = np.zeros(len(wins))
    sunk = _sunk(wins, winner, loser, 0)
    renamed = {order[i] for i in _sunk(wins[np.ix_(order, order)], winner, loser, 0)}
    # Ties between sets may be broken otherwise; the speed of the fall may not differ.
    assert bool(sunk) == bool(renamed)
    assert _cost(sunk, wins, winner, loser, 0, barrier) == _cost(renamed, wins, winner, loser, 0, barrier)


@given(_tables, _slope, _slope, _slope, st.floats(1e-6, 1e6))
def test_without_a_barrier_only_proportions_count(wins, winner, loser, both, scale):
    np.fill_diagonal(wins, 0)
    assert _sunk(wins * 2.0**20, winner, loser, both) == _sunk(wins, winner, loser, both)
    assert bool(_sunk(wins * scale, winner, loser, both)) == bool(_sunk(wins, winner, loser, both))


@given(_tables, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_loss_that_is_bounded_below_never_sinks(wins, winner, loser, both):
    np.fill_diagonal(wins, 0)
    assert _sunk(wins, winner, loser, both) == set()


@given(_tables)
def test_a_falling_margin_sinks_the_net_losers(wins):
    """−Δ summed over the data is −Σ_i log π_i (wins_i − losses_i)."""
    np.fill_diagonal(wins, 0)
    net = wins.sum(1) - wins.sum(0)
    sunk = _sunk(wins, 1, -1, 0)
    assert {i for i in range(len(wins)) if net[i] < 0} <= sunk <= {i for i in range(len(wins)) if net[i] <= 0}
    if (net == 0).all():
        assert sunk == set()


def test_a_barrier_stops_a_fall_exactly_where_it_costs_as_much():
    """0 beat 1 three times, 1 beat 0 once: 1 falls at 2 a nat, until keeping it costs more than that."""
    wins = [[0, 3], [1, 0]]
    assert _sunk(wins, 1, -1, 0, [0.5, 1.99]) == {1}
    assert _sunk(wins, 1, -1, 0, [0.5, 2.0]) == set()
    assert _sunk(wins, 1, -1, 0, [0.5, 2.01]) == set()
    # A barrier on the winner is never paid.
    assert _sunk(wins, 1, -1, 0, [100, 1.99]) == {1}


def test_a_barrier_spares_some_of_the_net_losers():
    """Net wins 4, −1, −3: a barrier of 2 a response outweighs one of the two."""
    wins = [[0, 2, 3], [1, 0, 0], [0, 0, 0]]
    assert _sunk(wins, 1, -1, 0) == {1, 2}
    assert _sunk(wins, 1, -1, 0, [2, 2, 2]) == {2}
    assert _sunk(wins, 1, -1, 0, [4, 4, 4]) == set()


def test_falling_only_when_both_sink_takes_a_pair_below_the_rest():
    """Slope −1 for a pair inside the set: all but the response that is compared least."""
    wins = [[0, 1, 5], [0, 0, 0], [0, 0, 0]]
    assert _sunk(wins, 0, 0, -1) == {0, 2}


def test_contexts_are_apart_and_each_has_its_own_slopes():
    rng = np.random.default_rng(0)
    wins = rng.integers(0, 5, (300, 3, 3)).astype(float)  # more than one chunk
    wins[:, range(3), range(3)] = 0
    signs = rng.choice([-1.0, 0.0, 1.0], 300)
    slope = Slopes(signs, -signs, np.zeros(300))
    found = sinking(wins, slope, np.zeros((300, 3)))
    for b in range(300):
        assert set(np.flatnonzero(found[b]).tolist()) == _sunk(wins[b], signs[b], -signs[b], 0)


@pytest.mark.parametrize("size", [12, 13, 20])
def test_many_responses_are_ranked_instead_of_tried(size):
    """For −Δ the net losers sink at any size: the exhaustive search (12) and the ranked one agree with the sum."""
    rng = np.random.default_rng(size)
    wins = rng.integers(0, 9, (6, size, size)).astype(float)
    wins[:, range(size), range(size)] = 0
    wins[5] += wins[5].T  # every pair a draw
    found = sinking(wins, _slopes(1, -1, 0, batch=6), np.zeros((6, size)))
    net = wins.sum(2) - wins.sum(1)
    np.testing.assert_array_equal(found | (net == 0), net <= 0)
    assert not found[5].any()
    assert not sinking(wins, _slopes(1, 0, 0, batch=6), np.zeros((6, size))).any()


@pytest.mark.parametrize("size", [12, 13])
def test_one_response_alone_is_found_at_any_size(size):
    """A loss that pays for the loser and forbids the winner: only what never won can sink, wherever it ranks."""
    wins = np.ones((size, size)) - np.eye(size)
    wins[4] = 0
    assert _sunk(wins, 1, -1e-3, 0) == {4}


# --- Whole tasks. ---------------------------------------------------------------------------------------


def falling(pair):
    return -pair.logp_margin


def leaking(pair):
    return relu(1 - pair.logp_margin) - 0.1 * pair.logp_margin


def anchored(pair, *, anchor=0.5):
    return Terms(-pair.logp_margin, forward_kl=anchor)


def _settings(objective, values=None) -> Settings:
    return Settings(objective, values or {}, "fixed", Options(ridge=0.0, oracle="true"))


def _vanishing(objective, instance, data, values=None) -> np.ndarray:
    """Responses that go to 0 in every data set, (S, X, V)."""
    chosen = _settings(objective, values)
    task = make_task(instance, data, chosen)
    hyper = {k: torch.tensor([v], dtype=torch.float64).expand(task.seeds) for k, v in objective.resolve(chosen.values).items()}
    assert not task.undecided(objective, hyper).any()
    return task.vanishing(objective, hyper)


def test_the_population_of_a_falling_margin_has_no_minimiser():
    """In every context the responses that lose more than they win go to 0; DPO's population is finite."""
    instance = random_instance(5, vocab=4, contexts=3, gamma=1.5)
    rewards = 1.5 * np.log(instance.target)
    wins = expit(rewards[:, :, None] - rewards[:, None, :]) - 0.5
    net = (instance.data_policy[:, None, :] * wins).sum(2)
    np.testing.assert_array_equal(_vanishing(make(falling), instance, population(instance))[0], net < 0)
    assert not _vanishing(get("dpo"), instance, population(instance)).any()


def test_simulated_populations_say_so():
    instance = random_instance(5, vocab=3, contexts=1)
    chosen = _settings(make(falling))
    outcome = solve(instance, make_task(instance, population(instance), chosen), chosen)
    assert not outcome.finite[0]
    assert not outcome.undecided[0]
    assert np.isinf(outcome.forward_kl[0])
    chosen = _settings(get("dpo"), {"beta": 0.5})
    dpo = solve(instance, make_task(instance, population(instance), chosen), chosen)
    assert dpo.finite[0]
    assert dpo.forward_kl[0] < 1


def _pair_of(won: float, lost: float) -> WinCounts:
    return WinCounts(np.array([[[[0.0, won], [lost, 0.0]]]]), np.array([[won + lost]]), won + lost)


@pytest.mark.parametrize(("won", "lost", "finite"), [(10, 1, True), (12, 1, False), (1, 12, False), (5, 5, True), (3, 0, False)])
def test_a_hinge_that_leaks_falls_from_odds_of_eleven_on(won, lost, finite):
    """Sinking the loser pays 0.1 for every win over it and costs 1.1 for every one of its own."""
    found = _vanishing(make(leaking), random_instance(0, vocab=2, contexts=1), _pair_of(won, lost))
    assert found[0, 0].tolist() == [not finite and lost > won, not finite and won > lost]


def test_a_reverse_barrier_keeps_a_falling_margin_as_long_as_it_is_steeper():
    """−Δ + λ KL(π_ref‖π) on one pair, 3 : 1: the loser falls at ½ a nat, the barrier costs λ π_ref."""
    instance = random_instance(1, vocab=2, contexts=1)
    threshold = 0.5 / float(instance.reference[0, 1])
    below = _vanishing(make(anchored), instance, _pair_of(3, 1), {"anchor": 0.99 * threshold})
    assert below[0, 0].tolist() == [False, True]
    chosen = _settings(make(anchored), {"anchor": 1.01 * threshold})
    above = solve(instance, make_task(instance, _pair_of(3, 1), chosen), chosen)
    assert above.finite[0]
    # ∂/∂ log-odds: −½ + λ(π_ref − π) of the loser = 0, λ π_ref = 1.01 · ½.
    assert np.exp(above.logp[0, 0, 1]) == pytest.approx(instance.reference[0, 1] * (1 - 1 / 1.01), rel=1e-6)


def test_data_sets_are_told_apart():
    """Three at once: 12 : 1, 1 : 1 and none."""
    wins = np.array([[[[0.0, 12.0], [1.0, 0.0]]], [[[0.0, 1.0], [1.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    data = WinCounts(wins, np.array([[13.0], [2.0], [2.0]]), 13.0)
    found = _vanishing(make(leaking), random_instance(0, vocab=2, contexts=1), data)
    assert found[:, 0].tolist() == [[False, True], [False, False], [False, False]]

"""Losses that level off on both sides: the tails of a loss where floats run out, against the mathematics by hand."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch.nn.functional import logsigmoid, relu

from theory.audit.subject import is_minimum
from theory.instances import Instance, random_instance
from theory.objectives import Terms, get, make
from theory.sampling import WinCounts, population
from theory.simulation import Settings, make_task
from theory.solvers.drain import Drain
from theory.solvers.existence import tails
from theory.solvers.options import Options


def _hyper(objective) -> dict[str, torch.Tensor]:
    return {p.name: torch.tensor([p.default], dtype=torch.float64) for p in objective.hyperparameters}


def _drain(objective) -> Drain:
    return Drain(objective, _hyper(objective), 1.0, Options(oracle="true"))


def _tails(function):
    return tails(_drain(make(function))._loss(0.0), 1)


# Name, loss of the margin, and by hand: it rises for ever when the pair is inverted; it rises or stops
# falling at a finite margin when the pair is far apart; its slope there falls like e^{−κ·margin} (None
# where the loss rises again).
INFINITE = float("inf")
LOSSES = [
    ("sigmoid", lambda m: -torch.sigmoid(m), False, False, 1.0),
    ("steep sigmoid", lambda m: -torch.sigmoid(5 * m), False, False, 5.0),
    ("flat sigmoid", lambda m: -torch.sigmoid(0.01 * m), False, False, 0.01),
    ("1 − sigmoid", lambda m: 1 - torch.sigmoid(m), False, False, 1.0),
    ("sigmoid of the inverse", lambda m: torch.sigmoid(-m), False, False, 1.0),
    ("tanh", lambda m: -torch.tanh(m), False, False, 2.0),
    ("Savage", lambda m: (1 + torch.exp(m)) ** -2, False, False, 2.0),
    ("bounded logistic", lambda m: (-logsigmoid(m)).clamp(max=2.0), False, False, 1.0),
    ("arctangent, slower than any exponential", lambda m: -torch.atan(m), False, False, 0.0),
    ("rational", lambda m: -m / (1 + m.abs()), False, False, 0.0),
    ("clamp", lambda m: -m.clamp(-1, 1), False, True, INFINITE),
    ("logistic", lambda m: -logsigmoid(m), True, False, 1.0),
    ("logistic, whose exp overflows", lambda m: torch.log(1 + torch.exp(-m)), True, False, 1.0),
    ("logistic, whose sigmoid rounds to 0 and 1", lambda m: -torch.log(torch.sigmoid(m)), True, False, 1.0),
    ("exponential", lambda m: torch.exp(-m), True, False, 1.0),
    ("flat exponential", lambda m: torch.exp(-0.05 * m), True, False, 0.05),
    ("hinge", lambda m: relu(1 - m), True, True, INFINITE),
    ("squared hinge", lambda m: relu(1 - m) ** 2, True, True, INFINITE),
    ("square", lambda m: (m - 1) ** 2, True, True, None),
    ("double well", lambda m: (m**2 - 1) ** 2, True, True, None),
    ("Huber", lambda m: torch.where((m - 1).abs() < 1, (m - 1) ** 2 / 2, (m - 1).abs() - 0.5), True, True, None),
]


@pytest.mark.parametrize(("name", "of_margin", "inverted", "separated", "exponent"), LOSSES, ids=[loss[0] for loss in LOSSES])
def test_tails_by_hand(name, of_margin, inverted, separated, exponent):
    found = _tails(lambda pair: of_margin(pair.logp_margin))
    assert (bool(found.inverted[0]), bool(found.separated[0])) == (inverted, separated)
    if exponent is not None:  # where the slope loses its digits before it fades, five decades of it are enough
        assert found.exponent[0] == pytest.approx(exponent, rel=1e-3)
    # A margin does not feel both sinking at one speed; at two speeds it is a margin that grows.
    assert not found.level[0]
    assert found.chain[0] == (exponent is None)


@pytest.mark.parametrize(("name", "of_margin", "inverted", "separated", "exponent"), LOSSES, ids=[loss[0] for loss in LOSSES])
def test_it_levels_off_when_it_is_bounded_both_ways(name, of_margin, inverted, separated, exponent):
    def loss(pair):
        return of_margin(pair.logp_margin)

    assert _drain(make(loss)).levels_off(1).tolist() == [not inverted and not separated]


@pytest.mark.parametrize("barrier", ["kl", "entropy", "forward_kl"])
def test_a_term_that_holds_the_policy_leaves_nothing_to_level_off(barrier):
    def loss(pair):
        return Terms(-torch.sigmoid(pair.logp_margin), **{barrier: 0.1})

    assert _drain(make(loss)).levels_off(1).tolist() == [False]


def test_a_barrier_counts_where_its_weight_is_not_zero():
    def loss(pair, *, weight=0.0):
        return Terms(-torch.sigmoid(pair.logp_margin), kl=weight)

    hyper = {"weight": torch.tensor([0.0, 0.5, 0.0], dtype=torch.float64)}
    assert Drain(make(loss), hyper, 1.0, Options()).levels_off(3).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "name", ["dpo", "ipo", "sft", "simpo", "drdo", "hypo", "p-dpo", "rebel", "chipo", "reward", "rkl", "rlhf"]
)
def test_no_registered_objective_levels_off(name):
    assert not _drain(get(name)).levels_off(1)[0]


# --- Whether a minimum is there then depends on the numbers. --------------------------------------------


def levelling(pair):
    return -torch.sigmoid(pair.logp_margin)


def _minimum(function, wins, reference=None) -> bool | None:
    """Whether the objective has a minimum on one context's win counts."""
    size = len(wins)
    reference = np.full((1, size), 1 / size) if reference is None else np.array([reference])
    counts = np.asarray(wins, float)[None, None]
    objective = make(function)
    chosen = Settings(objective, {}, "fixed", Options(ridge=0.0))
    total = counts.sum((-1, -2))
    task = make_task(Instance(np.full((1, size), 1 / size), reference), WinCounts(counts, total, float(total.sum())), chosen)
    return is_minimum(task, objective, _hyper(objective))


def test_one_pair_of_a_sigmoid_flies_to_its_majority():
    """−(w σ(m) + l σ(−m)) = −l − (w − l) σ(m): monotone in m, so no minimum unless w = l."""
    assert _minimum(levelling, [[0, 2], [1, 0]]) is False
    assert _minimum(levelling, [[0, 3], [0, 0]]) is False
    assert _minimum(levelling, [[0, 1], [4, 0]], [0.3, 0.7]) is False


def test_a_cycle_of_a_sigmoid_flies_too_and_a_logistic_one_does_not():
    """σ(a) + σ(b) + σ(−a−b) is 3/2 at 0 and tends to 2: the cycle that keeps every convex loss finite."""
    cycle = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert expit(30) + expit(30) + expit(-60) > 3 * expit(0)
    assert _minimum(levelling, cycle) is False
    assert _minimum(lambda pair: -logsigmoid(pair.logp_margin), cycle) is True


def test_a_bounded_loss_with_a_dip_has_a_minimum():
    """−1/(1 + (m − 1)²) on one pair is least at m = 1 and 0 in the limit both ways."""
    assert _minimum(lambda pair: -1 / (1 + (pair.logp_margin - 1) ** 2), [[0, 3], [1, 0]]) is True


def test_the_population_of_a_sigmoid_has_no_minimum_and_that_of_the_other_losses_has():
    instance = random_instance(2, vocab=3, contexts=2)
    for function, finite in (
        (levelling, False),
        (lambda pair: torch.exp(-pair.logp_margin), True),
        (lambda pair: relu(1 - pair.logp_margin) ** 2, True),
        (lambda pair: relu(1 - pair.logp_margin), True),
    ):
        objective = make(function)
        task = make_task(instance, population(instance), Settings(objective, {}, "fixed", Options(ridge=0.0)))
        assert is_minimum(task, objective, {}) is finite

"""Degeneracy by hand: Ford's condition on small designs, exact probabilities on one pair, flights to the boundary."""

from math import comb, sqrt

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn.functional import logsigmoid, relu

from theory.audit import existence, subject
from theory.audit.designs import CONTESTED, CYCLE, DESIGNS, DISJOINT, ONE_LABEL, SEPARABLE
from theory.audit.existence import DATA_SETS, degenerate_at, examine
from theory.audit.report import EXACT, SAMPLED
from theory.audit.subject import Subject, is_minimum, runs_away
from theory.instances import Instance, random_instance
from theory.objectives import Terms, get, make
from theory.sampling import WinCounts
from theory.simulation import Settings, make_task
from theory.solvers.options import Options
from theory.solvers.selection import Search


def right(pair, *, gamma):
    return -logsigmoid(gamma * pair.logp_margin)


def square(pair):
    return (pair.logp_margin - 1) ** 2


def hinge(pair):
    return relu(1 - pair.logp_margin)


def falling(pair):
    return -pair.logp_margin


def levelling(pair):
    return -torch.sigmoid(pair.logp_margin)


PAIR = Instance(np.array([[0.7, 0.3]]), np.array([[0.5, 0.5]]))


def of(objective, instance=PAIR, **values) -> Subject:
    return Subject(get(objective) if isinstance(objective, str) else make(objective), values, instance=instance)


# --- Designs. ----------------------------------------------------------------------------------------------


def test_the_roles_of_the_designs():
    assert SEPARABLE.roles == ("winner", "contested", "contested", "loser")
    assert DISJOINT.roles == ("winner", "loser", "winner", "loser", "unseen", "unseen")
    assert ONE_LABEL.roles == ("winner", "loser", "unseen")
    assert CONTESTED.roles == ("contested",) * 4 + ("unseen",) * 2
    assert CYCLE.roles == ("contested",) * 3
    # Every pair of the total order is labelled once, for the one with the lower number.
    assert SEPARABLE.wins.tolist() == np.triu(np.ones((4, 4)), 1).tolist()


# Which responses vanish on each design (in the order of DESIGNS), None where a finite minimiser exists.
# Bradley–Terry losses: those that are beaten from outside their strongly connected component (Ford).
FORD = [1, 2, 3], [1, 3], [1], None, None
# −log π_w: those that never won.
NEVER_WON = [3], [1, 3, 4, 5], [1, 2], [4, 5], None
FINITE = (None,) * 5

KNOWN = [
    ("dpo", {}, FORD),
    (right, {}, FORD),
    ("simpo", {}, FORD),
    ("pmle", {"beta": 0.0}, FORD),
    ("reward", {}, FORD),
    ("rkl", {}, FORD),
    ("rlhf", {}, FORD),
    ("sft", {}, NEVER_WON),
    ("ipo", {}, FINITE),
    ("p-dpo", {}, FINITE),
    (square, {}, FINITE),
    (hinge, {}, FINITE),
    (lambda pair: Terms(-logsigmoid(pair.logp_margin), kl=0.1), {}, FINITE),  # the drain e^{−Δ} is no faster than ε log 1/ε
]


@pytest.mark.parametrize(("objective", "values", "expected"), KNOWN, ids=lambda v: v if isinstance(v, str) else "")
def test_designs_by_hand(objective, values, expected):
    audited = of(objective, **values)
    for design, gone in zip(DESIGNS, expected, strict=True):
        found = examine(audited, design, audited.defaults)
        assert found.finite is (gone is None), design.name
        assert found.vanishing == (gone or []), design.name
        assert sum(mass for mass, _ in found.mass.values()) == pytest.approx(1)
        assert sum(share for _, share in found.mass.values()) == pytest.approx(1)


def test_a_slow_drain_against_an_entropic_barrier_is_not_decided(monkeypatch):
    """κ = β < 1 outpulls ε log 1/ε near the boundary, but where the minimum is the weights decide."""
    monkeypatch.setattr(existence, "SIZES", (10,))
    audited = of("hypo", beta=0.3, kl=0.01)
    assert [examine(audited, design, audited.defaults).finite for design in DESIGNS] == [None, None, None, True, True]
    verdicts = {f.id: f.verdict for f in existence.section(audited).findings}
    assert verdicts["existence.separable"] == "not decided"
    assert verdicts["existence.designs"] == "not decided"
    assert verdicts["existence.probability"] == "never"  # undecided data sets do not count


def test_a_loss_that_levels_off_flies_even_on_a_cycle():
    """σ(a) + σ(b) + σ(−a−b) rises from 3/2 to 2; two labels to one on a contested pair fly to the majority."""
    audited = of(levelling)
    for design in DESIGNS:
        assert examine(audited, design, audited.defaults).finite is False


def test_a_falling_margin_loses_its_net_losers_and_never_its_best():
    """−Δ summed over the data is linear: net losers sink, and only a draw of wins and losses everywhere stops it."""
    audited = of(falling)
    for design in DESIGNS:
        found = examine(audited, design, audited.defaults)
        net = design.wins.sum(1) - design.wins.sum(0)
        assert found.finite is bool((net == 0).all()), design.name
        assert set(np.flatnonzero(net < 0)) <= set(found.vanishing), design.name
        assert net[found.vanishing].max(initial=-1) < net.max(), design.name


def test_masses_of_a_barely_bounded_estimate():
    """Margins by hand; what no comparison decides, the level of the unseen, is the prior's: least norm about the mean."""
    half = np.log(3) / 2  # odds of 3 to 1 in one pair and of 1 to 1 in the other
    weights = softmax([half, -half, 0, 0, 0, 0])
    contested = examine(of("dpo", beta=1.0), CONTESTED, {"beta": 1.0}).mass
    assert contested["contested"] == (pytest.approx(weights[:4].sum(), abs=1e-3), pytest.approx(4 / 6))
    assert contested["unseen"] == (pytest.approx(weights[4:].sum(), abs=1e-3), pytest.approx(2 / 6))
    weights = softmax([1, -1, 0])  # a margin of 1/(2τ) = 2
    one = examine(of("ipo", tau=0.25), ONE_LABEL, {"tau": 0.25}).mass
    assert [one[role][0] for role in ("winner", "loser", "unseen")] == pytest.approx(weights, abs=1e-3)
    assert examine(of("dpo"), ONE_LABEL, {"beta": 0.05}).mass["winner"][0] == pytest.approx(1, abs=1e-6)


def test_the_world_does_not_change_the_designs():
    """The reference of a design is uniform and the oracle learned, whatever is audited."""
    world = random_instance(0, vocab=3, contexts=2, gamma=1.0)
    with_true = Subject(get("rkl"), {}, Options(oracle="true"), instance=world)
    assert examine(with_true, SEPARABLE, with_true.defaults).vanishing == [1, 2, 3]


# --- In the population and at n. -----------------------------------------------------------------------------


def exact_share(n: int, probability, lost) -> float:
    """P(lost(wins, losses)) for n comparisons of one pair that are informative with probability ½."""
    total = 0.0
    for k in range(n + 1):
        for w in range(k + 1):
            weight = comb(n, k) * 0.5**n * comb(k, w) * probability**w * (1 - probability) ** (k - w)
            total += weight * lost(w, k - w)
    return total


def unanimous(wins: int, losses: int) -> bool:
    return (wins == 0) != (losses == 0)


@pytest.mark.parametrize("n", [1, 3, 8, 20])
@pytest.mark.parametrize(
    ("objective", "lost"),
    [
        ("dpo", unanimous),
        (right, unanimous),
        ("sft", unanimous),
        (falling, lambda w, l: w != l),  # noqa: E741
        (levelling, lambda w, l: w != l),  # noqa: E741
    ],
    ids=["dpo", "likelihood", "sft", "falling", "levelling"],
)
def test_the_share_of_degenerate_data_sets_by_exact_probability(n, objective, lost):
    """V = 2, a uniform data policy: half the draws are y ≠ y', and the better response wins 0.7 of those."""
    exact = exact_share(n, 0.7, lost)
    found = degenerate_at(of(objective), n)
    assert abs(found.value - exact) <= 4 * sqrt(exact * (1 - exact) / DATA_SETS)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("objective", ["ipo", square, hinge])
def test_losses_that_stop_at_a_margin_never_degenerate(objective):
    assert [degenerate_at(of(objective), n).value for n in (1, 5, 100)] == [0, 0, 0]


def test_one_degenerate_context_is_enough():
    """Two contexts: 1 − (probability that neither is unanimous), by counting every division of n draws."""
    twice = Instance(np.full((2, 2), 0.5), np.full((2, 2), 0.5))
    n, fine = 6, 0.0
    for a in range(n + 1):  # informative draws of the first context
        for b in range(n + 1 - a):
            weight = comb(n, a) * comb(n - a, b) * 0.25**a * 0.25**b * 0.5 ** (n - a - b)
            both = [1.0 if k == 0 else 1 - 2.0 ** (1 - k) for k in (a, b)]
            fine += weight * both[0] * both[1]
    found = degenerate_at(of("dpo", twice), n)
    assert abs(found.value - (1 - fine)) <= 4 * sqrt(fine * (1 - fine) / DATA_SETS)


def test_the_section_of_a_likelihood(monkeypatch):
    monkeypatch.setattr(existence, "SIZES", (10, 1000))
    section = existence.section(of(right))
    assert {f.id: (f.verdict, f.basis) for f in section.findings} == {
        "existence.separable": ("no", EXACT),
        "existence.designs": ("no", EXACT),
        "existence.population": ("yes", EXACT),
        "existence.probability": ("at small n", SAMPLED),
    }
    assert section.finding("existence.separable").numbers["vanishing"] == [1, 2, 3]
    assert section.finding("existence.population").numbers == {"finite": True, "finite_at_best": True}
    shares = section.finding("existence.probability").numbers["share"]
    assert shares == [degenerate_at(of(right), 10).value, 0.0]
    designs, rates = section.tables
    finite = ["no", "no", "no", "yes", "yes"]
    assert [row[:2] for row in designs.rows] == list(zip([d.name for d in DESIGNS], finite, strict=True))
    assert [row[:2] for row in rates.rows] == list(zip([10, 1000], shares, strict=True))


def test_the_section_of_a_loss_that_falls_without_bound(monkeypatch):
    monkeypatch.setattr(existence, "SIZES", (10,))
    numbers = {f.id: f.numbers for f in existence.section(of(falling)).findings}
    assert numbers["existence.population"] == {"finite": False, "finite_at_best": False}
    assert numbers["existence.separable"]["finite"] is False


# --- Flights. ------------------------------------------------------------------------------------------------


def _task(wins, objective, reference=None):
    counts = np.asarray(wins, float)[:, None]
    size = counts.shape[-1]
    reference = np.full((1, size), 1 / size) if reference is None else np.array([reference])
    world = Instance(np.full((1, size), 1 / size), reference)
    totals = counts.sum((-1, -2))
    return make_task(world, WinCounts(counts, totals, float(totals[0, 0])), Settings(objective, {}, "fixed", Options(ridge=0.0)))


def test_a_uniform_policy_is_no_flight():
    """Doubling leaves it as it is; −(σ(m) + σ(−m)) is the constant −1."""
    objective = make(levelling)
    task = _task([[[0, 2], [2, 0]]], objective)
    (fit,) = Search(objective, [task]).fit({}, [task.log_ref])
    assert fit.logp.exp()[0, 0].tolist() == pytest.approx([0.5, 0.5])
    assert runs_away(task, objective, {}, fit).tolist() == [False]
    assert is_minimum(task, objective, {}) is True


def test_flights_are_told_apart_by_data_set():
    """Of one batch, an even pair stays and a decided one flies, whichever way."""
    objective = make(levelling)
    task = _task([[[0, 2], [2, 0]], [[0, 3], [1, 0]], [[0, 1], [3, 0]]], objective)
    (fit,) = Search(objective, [task]).fit({}, [task.log_ref])
    assert runs_away(task, objective, {}, fit).tolist() == [False, True, True]


def test_the_value_of_every_context_by_hand():
    """At the target, Σ f ℓ(Δ) of each context apart."""
    world = random_instance(3, vocab=3, contexts=2)
    audited = of(square, world)
    mu, log_target = world.data_policy, np.log(world.target)
    margin = log_target[:, :, None] - log_target[:, None, :]
    table = 2 * mu[:, :, None] * mu[:, None, :] / (1 + np.exp(-margin)) * (1 - np.eye(3))
    values = subject.context_values(audited.limit.task, audited.objective, {}, torch.from_numpy(log_target)[None])
    assert values[0] == pytest.approx((table * (margin - 1) ** 2).sum((1, 2)))

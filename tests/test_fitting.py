"""Fits to a user's comparisons against brute force, hand counts and each other."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize
from scipy.special import log_expit, log_softmax

from theory import fitting, objectives
from theory.errors import UserError
from theory.sampling import comparisons as module
from theory.sampling.columns import Columns
from theory.sampling.comparisons import Comparisons, Reference, aggregate
from theory.simulation import Settings
from theory.solvers.options import Options

# Three contexts: one with a cycle, one with two responses, one with four of which d only loses.
ROWS = [
    *[("q", "a", "b", 6), ("q", "b", "a", 3), ("q", "b", "c", 4), ("q", "c", "a", 2)],
    *[("r", "x", "y", 7), ("r", "y", "x", 5)],
    *[("s", "a", "b", 4), ("s", "b", "a", 4), ("s", "b", "c", 3), ("s", "c", "a", 2), ("s", "a", "d", 5)],
]


def data_of(rows) -> Comparisons:
    columns = {name: pa.array([row[i] for row in rows]) for i, name in enumerate((*module.COLUMNS, "count"))}
    return aggregate(Columns("--data", None, columns))


def settings(name, rule="fixed", values=None, **options):
    return Settings(objectives.get(name), values or {}, rule, Options(**options))


def fit(rows, name, gamma=1.0, reference=None, **kwargs):
    return fitting.fit(data_of(rows), settings(name, **kwargs), gamma, reference)


def policy(found):
    """{(context, response): log π̂}."""
    return {found.comparisons.name(node): value for node, value in enumerate(found.logp)}


def brute_force(rows, gamma, ridge):
    """The Bradley–Terry maximum with an L2 ridge on the centred reward, context by context, by scipy."""
    found = {}
    for context in {row[0] for row in rows}:
        inside = [row for row in rows if row[0] == context]
        names = sorted({name for row in inside for name in row[1:3]})
        index = {name: i for i, name in enumerate(names)}

        def loss(r, inside=inside, index=index):
            centred = r - r.mean()
            return -sum(c * log_expit(r[index[w]] - r[index[loser]]) for _, w, loser, c in inside) + ridge / 2 * centred @ centred

        r = minimize(loss, np.zeros(len(names)), method="BFGS", options={"gtol": 1e-9}).x
        found |= {(context, name): value for name, value in zip(names, log_softmax(r / gamma), strict=True)}
    return found


@pytest.mark.parametrize("gamma", [1.0, 2.5])
@pytest.mark.parametrize("ridge", [0.01, 1.0])
@pytest.mark.parametrize("sparse", [False, True])
def test_pmle_without_kl_is_the_ridge_bradley_terry_fit(monkeypatch, gamma, ridge, sparse):
    if sparse:
        monkeypatch.setattr(module, "LARGEST_DENSE_CELLS", 0)
    found = fit(ROWS, "pmle", gamma, values={"beta": 0.0}, ridge=ridge)
    assert policy(found) == pytest.approx(brute_force(ROWS, gamma, ridge), abs=1e-5)
    assert found.gradient_norm <= 1e-8
    assert found.chosen.kind == "closed-form"


def test_log_likelihood_is_the_preference_models():
    found = fit(ROWS, "dpo", 1.7, values={"beta": 0.3})
    logp = policy(found)
    expected = sum(c * log_expit(1.7 * (logp[x, w] - logp[x, loser])) for x, w, loser, c in ROWS)
    assert found.log_likelihood == pytest.approx(expected, rel=1e-12)
    assert found.coin_flip == pytest.approx(45 * math.log(0.5))
    assert found.comparisons.n == 45


def test_saturated_log_likelihood_by_hand():
    # r: a coin of 7 in 12. A tree of unanimous pairs around it costs nothing.
    pair = 7 * math.log(7 / 12) + 5 * math.log(5 / 12)
    assert fitting.saturated_log_likelihood(data_of(ROWS[4:6])) == pytest.approx(pair, rel=1e-12)
    tree = [*ROWS[4:6], ("r", "y", "z", 3), ("r", "w", "x", 9), ("t", "a", "b", 1)]
    assert fitting.saturated_log_likelihood(data_of(tree)) == pytest.approx(pair, rel=1e-12)
    assert fitting.saturated_log_likelihood(data_of(tree[2:])) == 0


@pytest.mark.parametrize("sparse", [False, True])
def test_saturated_log_likelihood_is_what_a_vanishing_ridge_reaches(monkeypatch, sparse):
    if sparse:
        monkeypatch.setattr(module, "LARGEST_DENSE_CELLS", 0)
    found = fit(ROWS, "pmle", values={"beta": 0.0}, ridge=1e-9)
    assert not found.degeneracy.finite
    assert found.log_likelihood <= found.saturated + 1e-9
    assert found.log_likelihood == pytest.approx(found.saturated, abs=1e-5)


@pytest.mark.parametrize("name", objectives.names())
def test_tables_and_edges_give_the_same_policy(monkeypatch, name):
    dense = fit(ROWS, name)
    monkeypatch.setattr(module, "LARGEST_DENSE_CELLS", 0)
    sparse = fit(ROWS, name)
    values = [[float(f.value) for f in found.chosen.fits] for found in (dense, sparse)]
    # A problem that is not convex may end in two minima; resamples of the two layouts are two draws.
    same = values[0] == pytest.approx(values[1], abs=1e-9)
    assert same or dense.chosen.kind == "local" or objectives.get(name).ensemble > 1
    if same:
        assert sparse.logp == pytest.approx(dense.logp, abs=1e-6)
        assert sparse.log_likelihood == pytest.approx(dense.log_likelihood, rel=1e-7)
    assert (sparse.degeneracy.vanishing == dense.degeneracy.vanishing).all()
    reason = fitting.SPARSE if objectives.get(name).ensemble == 1 else fitting.ENSEMBLE
    assert sparse.intervals.withheld.get(reason, 0) >= 2
    assert np.isnan(sparse.intervals.low).all()


def test_contexts_do_not_touch_each_other():
    together = policy(fit(ROWS, "d-dpo", values={"beta": 0.4}))
    for context in "qrs":
        alone = policy(fit([row for row in ROWS if row[0] == context], "d-dpo", values={"beta": 0.4}))
        assert {key: together[key] for key in alone} == pytest.approx(alone, abs=1e-8)


def test_dpo_multiplies_the_reference_in():
    data = data_of(ROWS)
    weights = np.log(np.arange(1.0, 10.0))
    reference = Reference(weights - np.logaddexp.reduceat(weights, data.offsets[:-1])[data.context_of], "a test")
    plain, tilted = fit(ROWS, "dpo", values={"beta": 0.7}), fit(ROWS, "dpo", reference=reference, values={"beta": 0.7})
    shift = tilted.logp - plain.logp - reference.logp
    for x in range(3):
        assert np.ptp(shift[data.offsets[x] : data.offsets[x + 1]]) < 1e-8


def test_degeneracy_by_hand():
    rows = [*ROWS, ("t", "a", "b", 1), ("u", "a", "b", 2), ("u", "b", "a", 1), ("u", "c", "d", 1), ("u", "d", "c", 3)]
    found = fit(rows, "dpo")
    names = found.comparisons
    assert {names.name(node) for node in found.degeneracy.vanishing.nonzero()[0]} == {("s", "d"), ("t", "b")}
    assert not found.degeneracy.finite
    assert [names.contexts[int(x)].as_py() for x in found.degeneracy.disconnected.nonzero()[0]] == ["u"]
    # q: ab both ways, bc, ca; r: xy both; s: ab both, bc, ca, ad; t: ab; u: ab and cd both.
    assert (found.degeneracy.pairs, found.degeneracy.unanimous) == (3 + 1 + 4 + 1 + 2, 2 + 3 + 1)
    assert found.intervals.withheld == {fitting.NOT_FINITE: 2, fitting.FLAT: 1}
    assert np.isfinite(found.intervals.low).sum() == 3 + 2


def test_a_kl_term_stops_the_drain_but_one_comparison_has_no_interval():
    found = fit([*ROWS, ("t", "a", "b", 1)], "pmle", values={"beta": 0.1})
    assert found.degeneracy.finite
    assert found.intervals.withheld == {fitting.TOO_FEW: 1}


def test_without_a_ridge_only_finite_contexts_are_reported():
    found = fit(ROWS, "dpo", ridge=0.0)
    lost = found.comparisons.context_of == 2
    assert (np.isnan(found.logp) == lost).all()
    assert math.isnan(found.log_likelihood)
    assert not found.bounded
    assert fit(ROWS[:6], "dpo", ridge=0.0).bounded
    assert fit(ROWS, "dpo").bounded


def test_intervals_contain_the_estimate_and_widen_with_confidence():
    found = fit(ROWS[:6], "pmle", values={"beta": 0.0})
    p = np.exp(found.logp)
    assert (found.intervals.low < p).all()
    assert (p < found.intervals.high).all()
    wider = fitting.fit(data_of(ROWS[:6]), settings("pmle", values={"beta": 0.0}), 1.0, confidence=0.999).intervals
    assert (wider.low < found.intervals.low).all()
    assert (wider.high > found.intervals.high).all()


def test_ensembles_have_no_intervals_and_say_why():
    found = fit(ROWS, "e-dpo")
    assert found.intervals.withheld == {fitting.ENSEMBLE: 3}
    assert np.isnan(found.intervals.high).all()


def test_best_needs_a_target():
    with pytest.raises(UserError, match=r"--beta best: needs a known target; use validation or a number \(--tau\)"):
        fit(ROWS, "ipo", rule="best")


def test_validation_needs_repeated_comparisons():
    single = [(f"x{i}", "a", "b", 1) for i in range(1000)]
    with pytest.raises(UserError, match="needs 50 comparisons in contexts with two or more, and there are 45"):
        fit([*single, *ROWS], "dpo", rule="validation")


def noisy(contexts=60, each=20, scale=0.3):
    rng = np.random.default_rng(0)
    rows = []
    for x in range(contexts):
        wins = rng.binomial(each, 1 / (1 + np.exp(-scale * rng.standard_normal())))
        rows += [(x, 0, 1, int(wins)), (x, 1, 0, int(each - wins))]
    return [row for row in rows if row[3]]


def test_validation_shrinks_noise_towards_the_reference():
    chosen = fit(noisy(), "pmle", rule="validation")
    assert chosen.hyper["beta"] > 0.05
    # The same number given by hand is the same fit.
    again = fit(noisy(), "pmle", values={"beta": chosen.hyper["beta"]})
    assert again.logp == pytest.approx(chosen.logp, abs=1e-9)


def test_a_fixed_hyperparameter_is_not_searched_and_progress_is_told():
    stages = []
    found = fitting.fit(data_of(ROWS), settings("ipo", "validation", {"tau": 0.7}), 1.0, progress=stages.append)
    assert found.hyper == {"tau": 0.7}
    assert stages == ["fitting", "checking for degeneracy", "computing confidence intervals"]


@pytest.mark.parametrize("name", objectives.names())
def test_every_objective_is_fitted_and_certified(name):
    found = fit(noisy(contexts=10), name, rule="validation" if name in ("pmle", "rkl") else "fixed")
    assert found.gradient_norm <= 1e-8
    assert np.isfinite(found.logp).all()
    total = np.bincount(found.comparisons.context_of, np.exp(found.logp))
    assert total == pytest.approx(np.ones(10))

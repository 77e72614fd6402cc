"""The list of labelled pairs: the law of the table's draws, by chi-square (false alarms: 1e-6 a test)."""

import numpy as np
import pytest
from scipy import stats

from theory.errors import UserError
from theory.instances import random_instance
from theory.sampling import Edges, draw, draw_edges, split_edges
from theory.sampling.edges import LARGEST_EDGE_N

from .test_counts import assert_law, cells, flat, uneven


def _table(edges: Edges) -> np.ndarray:
    wins = np.zeros((edges.contexts, edges.vocab, edges.vocab))
    np.add.at(wins, (edges.context, edges.chosen, edges.rejected), edges.count)
    return wins


def test_the_same_law_as_the_table():
    """Both paths against the same exact probabilities, and against each other."""
    instance = uneven()
    edges, dense = draw_edges(instance, 200_000, seed=1), draw(instance, 200_000, seed=1)
    counts, law = flat(_table(edges), edges.totals, cells(instance))
    assert_law(counts, law)
    others, _ = flat(dense.wins[0], dense.totals[0], cells(instance))
    assert 1e-6 < stats.chi2_contingency(np.stack([counts, others])).pvalue < 1 - 1e-6


def test_small_counts_have_the_same_distribution():
    """The number of distinct labelled pairs and one cell's count, over 600 small data sets of each path."""
    instance, n = uneven(), 30
    sparse = [draw_edges(instance, n, 3, k) for k in range(600)]
    dense = draw(instance, n, 4, range(600))
    distinct = [len(e.count) for e in sparse], (dense.wins > 0).sum((1, 2, 3))
    cell = [_table(e)[0, 0, 1] for e in sparse], dense.wins[:, 0, 0, 1]
    totals = [e.totals[0] for e in sparse], dense.totals[:, 0]
    for a, b in (distinct, cell, totals):
        assert stats.ks_2samp(a, b).pvalue > 1e-6
        assert np.std(a) == pytest.approx(np.std(b), rel=0.25)


def test_bookkeeping():
    edges = draw_edges(uneven(), 5_000, seed=2)
    assert (edges.vocab, edges.contexts, edges.n) == (4, 3, 5_000)
    assert edges.totals.sum() == 5_000
    assert (edges.count >= 1).all()
    assert (edges.chosen != edges.rejected).all()
    informative = np.bincount(edges.context, edges.count, minlength=3)
    assert (informative <= edges.totals).all()
    keys = (edges.context * 4 + edges.chosen) * 4 + edges.rejected
    assert len(np.unique(keys)) == len(keys)
    for index, top in ((edges.context, 3), (edges.chosen, 4), (edges.rejected, 4)):
        assert index.min() >= 0
        assert index.max() < top


def test_a_function_of_seed_replicate_and_n():
    instance = uneven()
    a, b = (draw_edges(instance, 1_000, 5, 2) for _ in range(2))
    np.testing.assert_array_equal(_table(a), _table(b))
    for other in (draw_edges(instance, 1_000, 5, 3), draw_edges(instance, 1_000, 6, 2), draw_edges(instance, 999, 5, 2)):
        assert not np.array_equal(_table(a), _table(other))


def test_large_vocabularies():
    """V² of a key exceeds 32 bits."""
    instance = random_instance(0, vocab=100_000, contexts=2)
    edges = draw_edges(instance, 2_000, seed=0)
    assert edges.chosen.max() > 65_536
    assert edges.chosen.max() < 100_000
    assert set(edges.context.tolist()) == {0, 1}
    assert edges.count.sum() <= 2_000
    assert edges.totals.sum() == 2_000


def test_too_many_comparisons_are_refused():
    with pytest.raises(UserError, match=r"--n 0: must be at least 1"):
        draw_edges(uneven(), 0, seed=0)
    with pytest.raises(UserError, match=r"--n 1e\+09: must be at most 1e\+08 when V = 4"):
        draw_edges(uneven(), 10 * LARGEST_EDGE_N, seed=0)


def test_split_conserves():
    edges = draw_edges(uneven(), 3_000, seed=5)
    rest, held = split_edges(edges, 0.2, np.random.default_rng(0))
    np.testing.assert_array_equal(rest.count + held.count, edges.count)
    np.testing.assert_array_equal(rest.totals + held.totals, edges.totals)
    assert (rest.n, held.n) == (2_400, 600)
    for part in (rest, held):
        assert (part.count >= 0).all()
        assert (np.bincount(part.context, part.count, minlength=3) <= part.totals).all()


def test_split_takes_each_comparison_independently():
    edges = draw_edges(uneven(), 300_000, seed=5)
    _, held = split_edges(edges, 0.3, np.random.default_rng(2))
    ties = edges.totals - np.bincount(edges.context, edges.count, minlength=3)
    held_ties = held.totals - np.bincount(held.context, held.count, minlength=3)
    counts, taken = np.append(edges.count, ties), np.append(held.count, held_ties)
    statistic = ((taken - 0.3 * counts) ** 2 / (0.3 * 0.7 * counts)).sum()
    assert 1e-6 < stats.chi2.sf(statistic, len(counts)) < 1 - 1e-6

"""Exact draws on a table: their law by chi-square, their bookkeeping, and their reproducibility.

Every random test has a fixed seed, and a threshold that a correct sampler would exceed with
probability 1e-6; none can fail by chance from one run to the next.
"""

import math

import numpy as np
import pytest
from scipy import stats

from theory.errors import UserError
from theory.instances import Instance, random_instance
from theory.sampling import WinCounts, bootstrap, draw, is_dense, population, split
from theory.sampling.counts import LARGEST_DENSE_CELLS, LARGEST_DENSE_VOCAB

FALSE_ALARM = 1e-6


def uneven(vocab: int = 4, contexts: int = 3, gamma: float = 1.3) -> Instance:
    """Nothing at its default: ρ not uniform, μ not π_ref, γ not 1."""
    base, rng = random_instance(2, vocab=vocab, contexts=contexts), np.random.default_rng(4)
    mu, rho = rng.dirichlet(np.full(vocab, 3.0), contexts), rng.dirichlet(np.full(contexts, 5.0))
    return Instance(base.target, base.reference, mu, rho, gamma)


def cells(instance: Instance) -> np.ndarray:
    """ρ_x·(probability of i ≻ j, or of a draw y = y' on the diagonal), by loops, shape (X, V, V)."""
    table = np.zeros((instance.contexts, instance.vocab, instance.vocab))
    for x, rho in enumerate(instance.context_weights):
        for i, a in enumerate(instance.data_policy[x]):
            for j, b in enumerate(instance.data_policy[x]):
                odds = (instance.target[x, i] / instance.target[x, j]) ** instance.gamma
                table[x, i, j] = rho * a * b * (1 if i == j else 2 * odds / (1 + odds))
    return table


def flat(wins: np.ndarray, totals: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and probabilities of every labelled pair and of each context's ties, as one multinomial."""
    off = ~np.eye(wins.shape[-1], dtype=bool)
    counts = np.concatenate([wins[:, off].ravel(), totals - wins.sum((-1, -2))])
    return counts, np.concatenate([expected[:, off].ravel(), np.einsum("xii->x", expected)])


def assert_law(counts: np.ndarray, probabilities: np.ndarray) -> None:
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    found = stats.chisquare(counts, probabilities * counts.sum())
    assert found.pvalue > FALSE_ALARM
    assert found.pvalue < 1 - FALSE_ALARM  # not too regular either


@pytest.mark.parametrize("n", [200_000, 10**12])
def test_one_data_set_has_the_exact_probabilities(n):
    instance = uneven()
    data = draw(instance, n, seed=11)
    assert data.totals.sum() == n
    assert_law(*flat(data.wins[0], data.totals[0], cells(instance)))


def test_the_counts_vary_as_they_should():
    """One cell over 4,000 data sets is binomial(n, p): the histogram against its probabilities."""
    instance, n = uneven(), 60
    data = draw(instance, n, seed=3, replicates=range(4_000))
    probabilities = cells(instance)
    for x, i, j in ((0, 0, 1), (1, 2, 0), (2, 3, 2)):
        found = data.wins[:, x, i, j].astype(int)
        top = int(stats.binom.ppf(0.99, n, probabilities[x, i, j]))
        observed = np.bincount(np.minimum(found, top), minlength=top + 1)
        law = stats.binom.pmf(np.arange(top + 1), n, probabilities[x, i, j])
        law[top] += stats.binom.sf(top, n, probabilities[x, i, j])
        assert_law(observed, law)
    ties = data.totals[:, 0] - data.wins[:, 0].sum((-1, -2))
    assert np.var(ties, ddof=1) == pytest.approx(n * (p := np.trace(probabilities[0])) * (1 - p), rel=0.15)


def test_bookkeeping():
    data = draw(uneven(), 12_345, seed=1, replicates=range(5))
    assert data.wins.shape == (5, 3, 4, 4)
    assert data.n == 12_345
    assert (data.totals.sum(1) == 12_345).all()
    assert (data.wins >= 0).all()
    assert (data.wins == np.floor(data.wins)).all()
    assert not np.einsum("sxii->sxi", data.wins).any()
    both_ways = (data.wins + data.wins.swapaxes(-1, -2)).sum((-1, -2)) / 2
    ties = data.totals - data.wins.sum((-1, -2))
    assert (ties >= 0).all()
    np.testing.assert_array_equal(both_ways + ties, data.totals)
    np.testing.assert_allclose(data.weights.sum(1), 1)
    np.testing.assert_allclose(data.frequencies.sum((-1, -2)), 1 - ties / data.totals)


def test_a_data_set_is_a_function_of_seed_replicate_and_n():
    instance = uneven()
    many = draw(instance, 500, 7, range(6))
    for k in (0, 4):
        alone = draw(instance, 500, 7, range(k, k + 1))
        np.testing.assert_array_equal(many.wins[k], alone.wins[0])
        np.testing.assert_array_equal(many.totals[k], alone.totals[0])
    np.testing.assert_array_equal(draw(instance, 500, 7, range(5, 2, -1)).wins, many.wins[5:2:-1])
    assert not np.array_equal(draw(instance, 500, 8).wins, many.wins[:1])
    assert not np.array_equal(many.wins[0], many.wins[1])
    # Another n is another stream, not a longer one.
    assert (draw(instance, 501, 7).wins[0] < many.wins[0]).any()


def test_the_stream_is_frozen():
    """Published sweeps name a data set by (seed, replicate, n), so these counts may never change."""
    data = draw(random_instance(0, vocab=3, contexts=2), 1_000, 0)
    assert data.totals[0].tolist() == [522, 478]
    assert data.wins[0, 0].tolist() == [[0, 30, 144], [5, 0, 1], [54, 19, 0]]


def test_a_context_may_get_no_comparison():
    data = draw(uneven(), 2, seed=0, replicates=range(50))
    empty = data.totals == 0
    assert empty.any()
    assert np.isfinite(data.frequencies).all()
    assert not data.frequencies[empty].any()


def test_trillions_are_exact_and_fast():
    data = draw(uneven(), 10**15, seed=2)
    assert data.totals.sum() == 10**15
    assert (data.wins == np.floor(data.wins)).all()
    np.testing.assert_allclose(data.wins[0] / 1e15, cells(uneven()) * (1 - np.eye(4)), atol=1e-6)


@pytest.mark.parametrize("n", [0, -5, 10**15 + 1])
def test_a_size_out_of_range_is_refused(n):
    with pytest.raises(UserError) as caught:
        draw(uneven(), n, seed=0)
    for part in ("--n", str(n), "1e+15"):
        assert part in str(caught.value)


def test_population():
    instance = uneven()
    found = population(instance)
    expected = cells(instance) * (1 - np.eye(4))
    np.testing.assert_allclose(found.wins[0], expected, rtol=1e-12)
    np.testing.assert_array_equal(found.totals[0], instance.context_weights)
    assert math.isinf(found.n)
    np.testing.assert_allclose(found.weights[0], instance.context_weights)
    ties = instance.context_weights * (instance.data_policy**2).sum(1)
    np.testing.assert_allclose(found.wins.sum((-1, -2))[0], instance.context_weights - ties)


def test_dense_limits():
    assert is_dense(LARGEST_DENSE_VOCAB, 1)
    assert not is_dense(LARGEST_DENSE_VOCAB + 1, 1)
    assert is_dense(1_000, LARGEST_DENSE_CELLS // 10**6)
    assert not is_dense(1_000, LARGEST_DENSE_CELLS // 10**6 + 1)
    with pytest.raises(UserError, match=r"--vocab 1001: is too large for a table of pairs"):
        draw(random_instance(0, vocab=1_001, contexts=1), 10, seed=0)


# --- Resampling and splitting. ----------------------------------------------------------------------


def test_bootstrap_conserves_and_invents_nothing():
    data = draw(uneven(), 400, seed=5, replicates=range(3))
    found = bootstrap(data, np.random.default_rng(0))
    np.testing.assert_array_equal(found.totals, data.totals)
    assert found.n == data.n
    assert (found.wins.sum((-1, -2)) <= data.totals).all()
    assert not found.wins[data.wins == 0].any()
    assert not np.array_equal(found.wins, data.wins)
    assert (found.wins == np.floor(found.wins)).all()


def test_bootstrap_has_the_law_of_the_data():
    """The sum of 500 resamples of one data set is multinomial with its empirical probabilities."""
    data = draw(uneven(), 20_000, seed=6)
    rng = np.random.default_rng(1)
    wins = sum(bootstrap(data, rng).wins[0] for _ in range(500))
    for x in range(3):
        n_x = data.totals[0, x]
        own = np.append(data.wins[0, x][~np.eye(4, dtype=bool)], n_x - data.wins[0, x].sum())
        drawn = np.append(wins[x][~np.eye(4, dtype=bool)], 500 * n_x - wins[x].sum())
        assert_law(drawn, own / n_x)


def test_bootstrap_of_nothing_and_of_everything():
    everything = population(uneven())
    assert bootstrap(everything, np.random.default_rng(0)) is everything
    nothing = WinCounts(np.zeros((1, 2, 3, 3)), np.array([[0.0, 4.0]]), 4.0)  # no data, and ties alone
    assert not bootstrap(nothing, np.random.default_rng(0)).wins.any()


def test_split_conserves():
    data = draw(uneven(), 3_000, seed=5, replicates=range(3))
    rest, held = split(data, 0.2, np.random.default_rng(0))
    np.testing.assert_array_equal(rest.wins + held.wins, data.wins)
    np.testing.assert_array_equal(rest.totals + held.totals, data.totals)
    assert (rest.n, held.n) == (2_400, 600)
    for part in (rest, held):
        assert (part.wins >= 0).all()
        assert (part.totals >= part.wins.sum((-1, -2))).all()


def test_split_takes_each_comparison_independently():
    """Held-out counts are binomial(W, 0.3): a chi-square of all cells with Σ (o − e)²/(e(1 − 0.3))."""
    data = draw(uneven(), 10**6, seed=5)
    _, held = split(data, 0.3, np.random.default_rng(2))
    counts, _ = flat(data.wins[0], data.totals[0], cells(uneven()))
    taken, _ = flat(held.wins[0], held.totals[0], cells(uneven()))
    statistic = ((taken - 0.3 * counts) ** 2 / (0.3 * 0.7 * counts)).sum()
    assert FALSE_ALARM < stats.chi2.sf(statistic, len(counts)) < 1 - FALSE_ALARM


def test_what_happens_to_a_data_set_does_not_depend_on_the_others():
    data = draw(uneven(), 500, 7, range(5))
    for k in (0, 2, 4):
        one = data.seeds(slice(k, k + 1))
        resampled = [bootstrap(d, np.random.default_rng(3)) for d in (data, one)]
        np.testing.assert_array_equal(resampled[0].wins[k], resampled[1].wins[0])
        held = [split(d, 0.2, np.random.default_rng(3))[1] for d in (data, one)]
        np.testing.assert_array_equal(held[0].wins[k], held[1].wins[0])
        np.testing.assert_array_equal(held[0].totals[k], held[1].totals[0])


def test_the_population_cannot_be_split():
    with pytest.raises(UserError, match=r"--beta validation: needs a finite n"):
        split(population(uneven()), 0.2, np.random.default_rng(0))

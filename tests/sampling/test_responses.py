"""Comparisons and estimates drawn from a language, against the exact population."""

import math

import numpy as np
import pytest

from theory.errors import UserError
from theory.instances import random_language
from theory.sampling import population
from theory.sampling.responses import draw_labelled, estimate_forward_kl


def _kl(language, logp) -> float:
    target = language.log_probs("target")
    return float((np.exp(target) * (target - logp)).sum() / language.prompts)


@pytest.mark.parametrize("eos", [False, True])
def test_comparisons_follow_the_population(eos):
    """Each cell of the win counts within 5 standard deviations of its exact mean, ties included in n."""
    language = random_language(6, tokens=2, length=2, prompts=2, eos=eos, gamma=1.5)
    n = 60_000
    data = draw_labelled(language, n, seed=1)
    responses = language.responses().tolist()
    wins = np.zeros((2, language.vocab, language.vocab))
    for x, chosen, rejected in zip(data.prompt, data.chosen.tolist(), data.rejected.tolist(), strict=True):
        wins[x, responses.index(chosen), responses.index(rejected)] += 1
    expected = population(language.instance()).wins[0]
    assert (np.abs(wins - n * expected) < 5 * np.sqrt(n * expected * (1 - expected)) + 1e-9).all()
    assert data.n == n
    assert len(data.prompt) == wins.sum() < n
    assert (np.diff(data.draw) > 0).all()
    assert data.draw[-1] < n


def test_data_are_a_function_of_language_n_and_seed():
    language = random_language(0)
    first, again, other = (draw_labelled(language, 100, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.chosen, again.chosen)
    np.testing.assert_array_equal(first.draw, again.draw)
    assert first.chosen.tolist() != other.chosen.tolist()


@pytest.mark.parametrize(("n", "seed", "words"), [(0, 0, "n 0"), (1.5, 0, "n 1.5"), (10, -1, "--seed -1")])
def test_bad_draws(n, seed, words):
    with pytest.raises(UserError, match=words):
        draw_labelled(random_language(), n, seed)


def test_the_estimate_is_unbiased_and_its_interval_covers():
    """200 estimates: their mean within 5 standard errors, and a 90% interval that covers in 90% ± 5 standard errors."""
    language = random_language(1, tokens=4, length=3, prompts=3, eos=True)
    exact = _kl(language, language.log_probs("reference"))

    def log_policy(x, y):
        return language.log_prob("reference", x, y)

    found = [estimate_forward_kl(language, log_policy, samples=300, seed=seed, confidence=0.9) for seed in range(200)]
    values = np.array([interval.value for interval in found])
    assert abs(values.mean() - exact) < 5 * values.std(ddof=1) / math.sqrt(200)
    covered = np.mean([interval.low <= exact <= interval.high for interval in found])
    assert abs(covered - 0.9) < 5 * math.sqrt(0.09 / 200)


def test_the_estimate_counts_mass_that_the_policy_puts_elsewhere():
    language = random_language(2, tokens=3, length=2, prompts=2)
    found = estimate_forward_kl(language, lambda x, y: language.log_prob("target", x, y) - 0.25, samples=10)
    assert found.value == pytest.approx(0.25, abs=1e-12)
    assert found.high - found.low < 1e-12


def test_a_language_beyond_enumeration():
    language = random_language(0, tokens=10, length=8)
    found = estimate_forward_kl(language, lambda x, y: language.log_prob("reference", x, y), samples=20_000)
    # The chain rule: the expected KL of the next token, state by state, over the chain's own marginals.
    target, reference = (np.exp(language.next_log_probs(which)) for which in ("target", "reference"))
    step = (target * np.log(target / reference)).sum(-1)
    exact, state = 0.0, np.zeros((4, 11))
    state[:, 0] = 1
    for _ in range(8):
        exact += (state * step).sum() / 4
        state = np.concatenate([np.zeros((4, 1)), np.einsum("xs,xst->xt", state, target)], axis=1)
    assert found.low < exact < found.high
    assert found.high - found.low < 0.1

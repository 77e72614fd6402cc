"""What an instance accepts, what it refuses and how it says so."""

import math

import numpy as np
import pytest

from theory.errors import UserError
from theory.instances import Instance, random_instance

GOOD = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])


def _with(row: int, column: int, value: float) -> np.ndarray:
    table = GOOD.copy()
    table[row, column] = value
    return table


BAD = {
    "target sums": ({"target": _with(1, 0, 0.7)}, "target[1]", "sums to 1.1", "sum to 1"),
    "reference sums": ({"reference": _with(0, 2, 0.5 + 1e-8)}, "reference[0]", "sums to 1.00000001", "sum to 1"),
    "data_policy sums": ({"data_policy": GOOD * 0.5}, "data_policy[0]", "sums to 0.5", "sum to 1"),
    "weights sum": ({"context_weights": [0.5, 0.6]}, "context_weights[0]", "sums to 1.1", "sum to 1"),
    "NaN": ({"target": _with(0, 1, np.nan)}, "target[0, 1]", "nan", "positive and finite"),
    "infinite": ({"reference": _with(0, 1, np.inf)}, "reference[0, 1]", "inf", "positive and finite"),
    "zero": ({"reference": [[0.5, 0.5, 0.0], [0.6, 0.3, 0.1]]}, "reference[0, 2]", "0.0", "positive and finite"),
    "negative": ({"target": [[0.6, 0.5, -0.1], [0.6, 0.3, 0.1]]}, "target[0, 2]", "-0.1", "positive and finite"),
    "zero weight": ({"context_weights": [1.0, 0.0]}, "context_weights[0, 1]", "0.0", "positive and finite"),
    "one row": ({"target": [0.2, 0.3, 0.5]}, "target", "(3,)", "(contexts, responses)"),
    "three axes": ({"target": GOOD[None]}, "target", "(1, 2, 3)", "(contexts, responses)"),
    "V = 1": ({"target": [[1.0], [1.0]]}, "target", "(2, 1)", "two responses"),
    "no context": ({"target": np.zeros((0, 3))}, "target", "(0, 3)", "at least one context"),
    "reference shape": ({"reference": GOOD[:, :2]}, "reference", "(2, 2)", "(2, 3)"),
    "data_policy shape": ({"data_policy": GOOD[:1]}, "data_policy", "(1, 3)", "(2, 3)"),
    "weights shape": ({"context_weights": [0.2, 0.3, 0.5]}, "context_weights", "(1, 3)", "(1, 2)"),
    "gamma 0": ({"gamma": 0.0}, "gamma", "0.0", "positive and finite"),
    "gamma negative": ({"gamma": -1.0}, "gamma", "-1.0", "positive and finite"),
    "gamma NaN": ({"gamma": math.nan}, "gamma", "nan", "positive and finite"),
    "gamma infinite": ({"gamma": math.inf}, "gamma", "inf", "positive and finite"),
    "gamma a word": ({"gamma": "one"}, "gamma", "one", "number"),
    "gamma a list": ({"gamma": [1.0, 2.0]}, "gamma", "[1.0, 2.0]", "number"),
    "words": ({"target": [["a", "b", "c"], ["d", "e", "f"]]}, "target", "", "array of numbers"),
    "ragged": ({"target": [[0.5, 0.5], [1.0]]}, "target", "", "array of numbers"),
    "features rank": ({"features": np.ones((2, 3))}, "features", "(2, 3)", "(d,)"),
    "features shape": ({"features": np.ones((2, 4, 1))}, "features", "(2, 4, 1)", "(2, 3) + (d,)"),
    "features too many": ({"features": np.ones((2, 3, 3))}, "features", "(2, 3, 3)", "d < V"),
    "features none": ({"features": np.ones((2, 3, 0))}, "features", "(2, 3, 0)", "1 ≤ d"),
    "features NaN": ({"features": np.full((2, 3, 1), np.nan)}, "features", "", "finite"),
    "features words": ({"features": np.full((2, 3, 1), "x")}, "features", "", "numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    changes, argument, value, remedy = BAD[case]
    with pytest.raises(UserError) as caught:
        Instance(**{"target": GOOD, "reference": GOOD, **changes})
    for part in (argument, value, remedy):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sum_within_the_tolerance_is_accepted():
    assert Instance(_with(0, 2, 0.5 + 1e-10), GOOD).contexts == 2


def test_defaults_and_types():
    instance = Instance(GOOD.tolist(), np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], dtype=np.float32))
    assert instance.reference.dtype == np.float64
    assert instance.target.dtype == np.float64
    assert (instance.contexts, instance.vocab, instance.gamma) == (2, 3, 1.0)
    np.testing.assert_array_equal(instance.data_policy, instance.reference)
    np.testing.assert_array_equal(instance.context_weights, [0.5, 0.5])


def test_preferences_by_hand():
    instance = Instance(GOOD, GOOD, gamma=1.5)
    win = instance.win_probability()
    for x in range(2):
        for i in range(3):
            for j in range(3):
                a, b = GOOD[x, i] ** 1.5, GOOD[x, j] ** 1.5
                assert win[x, i, j] == pytest.approx(a / (a + b), rel=1e-14)
    np.testing.assert_allclose(instance.reward(), 1.5 * np.log(GOOD))


def test_extreme_probabilities_keep_their_tails():
    tiny = 1e-300
    win = Instance(np.array([[1 - tiny, tiny]]), np.array([[0.5, 0.5]])).win_probability()[0]
    assert win[1, 0] == pytest.approx(tiny, rel=1e-12)
    assert win[0, 1] == 1


def test_with_features():
    instance = random_instance(0, vocab=4, contexts=2)
    features = np.arange(16.0).reshape(2, 4, 2)
    changed = instance.with_features(features)
    np.testing.assert_array_equal(changed.features, features)
    np.testing.assert_array_equal(changed.target, instance.target)
    assert instance.features is None

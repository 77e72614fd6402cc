"""Words of captions."""

import pytest

from figures.words import listed, power


@pytest.mark.parametrize(("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_lists(words, text):
    assert listed(words) == text


@pytest.mark.parametrize(
    ("number", "digits", "text"), [(1e10, 0, "1e10"), (356425.6, 1, "3.6e5"), (5e-6, 0, "5e-6"), (1.0, 0, "1e0")]
)
def test_powers_of_ten(number, digits, text):
    assert power(number, digits) == text
    assert float(text) == pytest.approx(number, rel=0.02)

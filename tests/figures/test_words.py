"""Words of captions."""

import pytest

from figures.words import Share, listed, opening, power, shares, short, some, written
from theory import objectives


@pytest.mark.parametrize(("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_lists(words, text):
    assert listed(words) == text


@pytest.mark.parametrize(
    ("number", "digits", "text"), [(1e10, 0, "1e10"), (356425.6, 1, "3.6e5"), (5e-6, 0, "5e-6"), (1.0, 0, "1e0")]
)
def test_powers_of_ten(number, digits, text):
    assert power(number, digits) == text
    assert float(text) == pytest.approx(number, rel=0.02)


def test_every_registered_method_has_a_name_of_its_own():
    found = [written(method) for method in objectives.names()]
    assert len(set(found)) == len(found)
    assert all(len(text) == len(text.strip()) > 1 for text in found)
    assert written("rkl", "e-dpo", "chipo") == "RKL, e-DPO and χPO"


@pytest.mark.parametrize("number", [1e-9, 5.02e-6, 9.99e-4, 0.0123, 0.999, 9.96, 46.4, 803.0, 7289.0, 99_600.0, 3.6e5, -0.25])
def test_two_digits_are_kept(number):
    assert float(short(number).replace(",", "")) == pytest.approx(number, rel=0.05)
    assert len(short(number)) <= 6


def test_more_than_all_is_refused():
    with pytest.raises(ValueError, match="4 of 3"):
        some(4, 3)


def test_the_whole_is_said_only_if_every_interval_holds_it():
    near, far = Share(0.98, 0.9, 1.06), Share(0.98, 0.97, 0.99)
    assert shares([near], 0.01, "the limit") == "the limit, within a sampling error of 8%"
    assert shares([near, far], 0.01, "the limit") == "98% (± 8%) of the limit"


def test_a_sentence_keeps_names_as_they_are_written():
    assert opening("the reward model") == "The reward model"
    assert opening("e-DPO, RKL and PMLE") == "e-DPO, RKL and PMLE"

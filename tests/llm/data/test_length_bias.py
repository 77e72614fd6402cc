"""Selections have exactly the share asked for, counted again here."""

from __future__ import annotations

import re

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.data.length_bias import longer, relabel, select
from llm.data.segments import WORDS
from tests.llm.data.synthetic import preferences
from theory.errors import UserError


def counted(dataset, rows):
    """Of the rows, those whose chosen response is at least a tenth longer, and those whose rejected one is."""
    pairs = [(len(dataset[int(i)]["chosen"].split()), len(dataset[int(i)]["rejected"].split())) for i in rows]
    return sum(w >= 1.1 * l - 1e-9 for w, l in pairs), sum(l >= 1.1 * w - 1e-9 for w, l in pairs)  # noqa: E741


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 60))
def test_longer_is_exact(first, second, percent):
    found = longer(np.array([first]), np.array([second]), percent)[0]
    assert found == (first * 100 >= second * 100 + second * percent and first > second)


@pytest.fixture(scope="module")
def data():
    return preferences(600, 3)


@pytest.mark.parametrize("rho", [0.0, 0.2, 0.3, 0.5, 0.8, 1.0])
def test_the_share_is_exact(data, rho):
    selected = select(data, WORDS, rho, 100, seed=1)
    assert counted(data, selected.rows) == (round(100 * rho), 100 - round(100 * rho))
    assert selected.share == rho
    assert len(set(selected.rows)) == 100
    assert sorted(selected.rows) == list(selected.rows)


@given(st.floats(0, 1), st.integers(1, 120), st.integers(0, 3))
def test_any_share_is_met_to_half_a_row(rho, size, seed):
    data = preferences(600, 3)
    selected = select(data, WORDS, rho, size, seed=seed)
    assert abs(selected.share - rho) <= 0.5 / size + 1e-12
    assert np.array_equal(selected.rows, select(data, WORDS, rho, size, seed=seed).rows)


def test_what_is_available_is_counted(data):
    selected = select(data, WORDS, 0.5, 10)
    assert selected.available[:2] == counted(data, range(600))
    assert sum(selected.available) == 600


def test_too_many_are_refused_with_the_numbers(data):
    more, fewer = counted(data, range(600))
    with pytest.raises(UserError) as caught:
        select(data, WORDS, 0.9, 600)
    message = str(caught.value)
    assert message.startswith("--size 600: needs 540 rows whose longer response is preferred and 60 whose shorter one is")
    assert f"the data have {more} and {fewer}" in message
    most = int(re.search(r"allows up to (\d+) rows", message).group(1))
    assert select(data, WORDS, 0.9, most).longer_preferred <= more
    with pytest.raises(UserError):
        select(data, WORDS, 0.9, most + 2)


@pytest.mark.parametrize(
    ("rho", "size", "percent", "message"),
    [(1.2, 10, 10, "--rho 1.2"), (float("nan"), 10, 10, "--rho nan"), (0.3, 0, 10, "--size 0"), (0.3, 10, -1, "--percent -1")],
)
def test_bad_settings(data, rho, size, percent, message):
    with pytest.raises(UserError, match=message):
        select(data, WORDS, rho, size, percent=percent)


@pytest.mark.parametrize("ensemble", [False, True])
def test_relabelling_prefers_the_larger_reward(ensemble):
    score = (lambda value: [value - 1.0, value + 1.0]) if ensemble else float
    rows = [
        {"id": f"{i}", "chosen": f"w{i}", "rejected": f"l{i}", "reward_chosen": score(w), "reward_rejected": score(l)}
        | {"ref_chosen_logps": -1.0, "ref_rejected_logps": -2.0, "chosen_model": "a", "rejected_model": "b", "note": "n"}
        for i, (w, l) in enumerate([(1, 0), (0, 1), (2, 2)])  # noqa: E741
    ]
    found, changed = relabel(datasets.Dataset.from_list(rows))
    assert changed == 1
    as_labels = [{f"oracle_{k}" if k.startswith("reward") else k: v for k, v in row.items()} for row in rows]
    assert found.to_list()[::2] == as_labels[::2]
    assert found[1] == {
        "id": "1",
        "chosen": "l1",
        "rejected": "w1",
        "oracle_reward_chosen": score(1),
        "oracle_reward_rejected": score(0),
        "ref_chosen_logps": -2.0,
        "ref_rejected_logps": -1.0,
        "chosen_model": "b",
        "rejected_model": "a",
        "note": "n",
    }
    assert found.column_names == list(as_labels[0])


def test_relabelling_needs_rewards(data):
    with pytest.raises(UserError, match="--relabel: needs reward_chosen and reward_rejected"):
        relabel(data)

"""drdo's splits against a brute-force reading of their definition."""

from __future__ import annotations

import statistics

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.data.segments import WORDS
from llm.data.splits import TABLE_5, divide, edit_distances, make
from tests.llm.data.synthetic import preferences
from theory.errors import UserError


def levenshtein(first, second):
    """The textbook recursion, row by row."""
    previous = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        current = [i]
        for j, b in enumerate(second, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (a != b)))
        previous = current
    return previous[-1]


TEXT = st.lists(st.sampled_from("abc"), min_size=1, max_size=7).map(" ".join)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=5))
def test_edit_distance_is_levenshteins(texts):
    """With the prompt: the distance of the two whole texts, over the longer of them."""
    columns = dict(zip(("prompt", "chosen", "rejected"), map(list, zip(*texts, strict=True)), strict=True))
    found = edit_distances(datasets.Dataset.from_dict(columns), WORDS)
    for i, (prompt, chosen, rejected) in enumerate(tuple(text.split() for text in row) for row in texts):
        assert found.responses[i] == levenshtein(chosen, rejected) / max(len(chosen), len(rejected))
        whole = levenshtein(prompt + chosen, prompt + rejected) / max(len(prompt + chosen), len(prompt + rejected))
        assert found.with_prompt[i] == whole


def test_edit_distance_counts_tokens_and_reads_messages():
    rows = {
        "prompt": [[{"role": "user", "content": "a b"}]],
        "chosen": [[{"role": "assistant", "content": "kitten on mat"}]],
        "rejected": [[{"role": "assistant", "content": "sitting on mat"}]],
    }
    found = edit_distances(datasets.Dataset.from_dict(rows), WORDS)
    assert (found.responses[0], found.with_prompt[0]) == (1 / 3, 1 / 5)


def brute_force(dataset, with_prompt):
    """Rows above, and below, both medians, by sorting and counting."""
    rows = []
    for i, row in enumerate(dataset):
        prompt, chosen, rejected = (row[name].split() for name in ("prompt", "chosen", "rejected"))
        if row["confidence"] is not None:
            length = max(len(chosen), len(rejected)) + with_prompt * len(prompt)
            rows.append((i, row["confidence"], levenshtein(chosen, rejected) / length))
    middle = [statistics.median(row[k] for row in rows) for k in (1, 2)]
    high = [i for i, *values in rows if values[0] > middle[0] and values[1] > middle[1]]
    low = [i for i, *values in rows if values[0] < middle[0] and values[1] < middle[1]]
    tied = sum(values[0] == middle[0] or values[1] == middle[1] for _, *values in rows)
    return {"all": [row[0] for row in rows], "hc_he": high, "lc_le": low}, middle, tied, {i: v for i, *v in rows}


@pytest.mark.parametrize("with_prompt", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_splits_are_the_brute_force_ones(seed, with_prompt):
    dataset = preferences(301, seed, unknown=0.2)
    made = make(dataset, WORDS, seed=seed, with_prompt=with_prompt)
    expected, middle, tied, values = brute_force(dataset, with_prompt)
    assert [made.confidence, made.edit_distance] == middle
    assert made.at_percentile == tied
    assert made.without_confidence == 301 - len(expected["all"])
    assert list(made.parts) == list(TABLE_5)
    for name, part in made.parts.items():
        assert sorted([*part.train, *part.validation]) == expected[name]
        assert len(part.validation) == -(-len(expected[name]) // 10)
        assert part.confidence == pytest.approx(statistics.mean(values[i][0] for i in expected[name]), abs=1e-12)
        distance = part.edit_distance_with_prompt if with_prompt else part.edit_distance
        assert distance == pytest.approx(statistics.mean(values[i][1] for i in expected[name]), abs=1e-12)
    assert made.parts["hc_he"].confidence > made.parts["all"].confidence > made.parts["lc_le"].confidence


@pytest.mark.parametrize("name", ["hc_he", "lc_le"])
def test_the_division_reproduces_the_printed_counts(name):
    printed = TABLE_5[name]
    train, validation = divide(np.arange(printed.train + printed.validation), np.random.default_rng(0))
    assert (len(train), len(validation)) == (printed.train, printed.validation)


@given(st.integers(2, 60), st.integers(0, 5), st.one_of(st.none(), st.integers(1, 70)))
def test_the_division_is_one(n, seed, cap):
    rows = np.arange(100, 100 + n)
    train, validation = divide(rows, np.random.default_rng(seed), None, cap)
    again = divide(rows, np.random.default_rng(seed), None, cap)
    assert np.array_equal(train, again[0])
    assert np.array_equal(validation, again[1])
    assert len(validation) == -(-n // 10)
    assert len(train) == min(n - len(validation), cap or n)
    assert set(train) | set(validation) <= set(rows)
    assert not set(train) & set(validation)
    assert sorted(train) == list(train)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=50), st.integers(0, 5))
def test_groups_stay_together(groups, seed):
    groups = np.array(groups)
    train, validation = divide(np.arange(len(groups)), np.random.default_rng(seed), groups)
    assert not set(groups[train]) & set(groups[validation])
    assert len(train) + len(validation) == len(groups)
    sizes = np.bincount(groups)
    # Whole groups until a tenth is reached: at most one group more than needed.
    assert -(-len(groups) // 10) <= len(validation) < -(-len(groups) // 10) + sizes.max()


def test_seed_cap_and_prompts():
    dataset = preferences(400, prompts=30)
    first, again, other = (make(dataset, WORDS, seed=seed) for seed in (1, 1, 2))
    for name in TABLE_5:
        assert np.array_equal(first.parts[name].train, again.parts[name].train)
        assert not np.array_equal(first.parts[name].train, other.parts[name].train)
    capped = make(dataset, WORDS, seed=1, cap=20)
    assert len(capped.parts["all"].train) == len(first.parts["all"].train) == 360
    assert len(capped.parts["hc_he"].train) == len(capped.parts["lc_le"].train) == 20
    assert set(capped.parts["hc_he"].train) < set(first.parts["hc_he"].train)
    for part in make(dataset, WORDS, by_prompt=True).parts.values():
        prompts = [{dataset[int(i)]["prompt"] for i in rows} for rows in (part.train, part.validation)]
        assert prompts[0]
        assert not prompts[0] & prompts[1]


def test_confidence_by_choice():
    """A scale that says which response is better, not how sure the labeller is, shows itself."""
    dataset = preferences(200)
    choice = [int(value > 5) for value in dataset["confidence"]]
    by_choice = make(dataset.add_column("choice", choice), WORDS).confidence_by_choice
    assert by_choice[0] < 4
    assert by_choice[1] > 7
    assert make(dataset, WORDS).confidence_by_choice == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.remove_columns("confidence"), "has no column confidence"),
        (lambda data: data.remove_columns("confidence").add_column("confidence", [None] * 50), "has no row with a confidence"),
        (
            lambda data: data.remove_columns("confidence").add_column("confidence", [5.0] * 50),
            "--data: its subset hc_he would have 0 rows: .* above",
        ),
        (lambda data: data.select(range(2)), r"would have [01] rows"),
    ],
)
def test_splits_that_cannot_be(change, message):
    with pytest.raises(UserError, match=message):
        make(change(preferences(50)), WORDS)
    with pytest.raises(UserError, match="--cap 0: must be at least 1"):
        make(preferences(50), WORDS, cap=0)


def test_one_prompt_cannot_be_on_both_sides():
    with pytest.raises(UserError, match="--by-prompt: leaves all no row to train on"):
        make(preferences(100, prompts=1), WORDS, by_prompt=True)

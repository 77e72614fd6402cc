"""The language as text: what is written is what was drawn, under ids that stay."""

import json
import re

import numpy as np
import pytest
from pyarrow import parquet

from llm.world.texts import (
    parse_responses,
    preference_dataset,
    preference_table,
    prompt_texts,
    response_texts,
    words,
    write_preferences,
)
from theory.errors import UserError
from theory.instances import random_language
from theory.sampling.responses import draw_labelled


def test_words_and_prompts():
    assert words(3) == ["a", "b", "c"]
    assert words(28)[-3:] == ["z", "aa", "ab"]
    many = words(26 + 26**2 + 1)
    assert many[-1] == "aaa"
    assert len(set(many)) == len(many)
    assert prompt_texts(random_language(prompts=2)) == ["p0 :", "p1 :"]


@pytest.mark.parametrize("eos", [False, True])
def test_every_response_can_be_read_back(eos):
    language = random_language(tokens=4, length=3, eos=eos)
    texts = response_texts(language, language.responses())
    assert len(set(texts)) == language.vocab
    assert texts[-1] == " d d d"
    assert texts[0] == (" a" if eos else " a a a")
    np.testing.assert_array_equal(parse_responses(language, texts), language.responses())


@pytest.mark.parametrize(("text", "remedy"), [("a x b", "'x' is none of"), ("", "from 1 to 3"), ("a a a a", "from 1 to 3")])
def test_what_is_no_response(text, remedy):
    with pytest.raises(UserError, match=remedy):
        parse_responses(random_language(tokens=4), [text])


@pytest.mark.parametrize("eos", [False, True])
def test_preferences_are_the_draws(eos):
    language = random_language(3, tokens=3, length=2, prompts=2, eos=eos)
    table, data = preference_table(language, 500, seed=4), draw_labelled(language, 500, seed=4)
    assert table.column_names == ["id", "prompt", "chosen", "rejected"]
    assert table["prompt"].to_pylist() == [f"p{x} :" for x in data.prompt]
    for side in ("chosen", "rejected"):
        np.testing.assert_array_equal(parse_responses(language, table[side].to_pylist()), getattr(data, side))
    ids = table["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"{language.fingerprint[:12]}-500-4-\d+", one) for one in ids)
    assert ids == preference_table(language, 500, seed=4)["id"].to_pylist()
    assert not set(ids) & set(preference_table(language, 500, seed=5)["id"].to_pylist())
    assert preference_dataset(language, 500, seed=4).to_list() == table.to_pylist()


def test_files_have_the_schema_and_the_rows(tmp_path):
    language = random_language(3, tokens=3, length=2, prompts=2)
    table = preference_table(language, 300, 0)
    assert write_preferences(language, 300, 0, tmp_path / "d.jsonl") == table.num_rows < 300
    lines = (tmp_path / "d.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == table.to_pylist()
    write_preferences(language, 300, 0, tmp_path / "d.parquet")
    assert parquet.read_table(tmp_path / "d.parquet").equals(table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl", "d.parquet"]


def test_bad_requests_write_nothing(tmp_path):
    language = random_language()
    for n, seed, name, remedy in (
        (0, 0, "d.jsonl", "n 0"),
        (10, -1, "d.jsonl", "--seed -1"),
        (10, 0, "d.csv", "must end in .jsonl or .parquet"),
        (10, 0, "absent/d.jsonl", "cannot be written"),
    ):
        with pytest.raises(UserError, match=remedy):
            write_preferences(language, n, seed, tmp_path / name)
    alike = random_language(tokens=2, length=1, prompts=1)
    with pytest.raises(UserError, match="no pair of different responses"):
        [preference_table(alike, 1, seed) for seed in range(20)]
    assert list(tmp_path.iterdir()) == []

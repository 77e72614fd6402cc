"""Lengths are those of the tokens that TRL trains on."""

from __future__ import annotations

import pytest

from llm.data.filters import within_tokens
from llm.data.segments import WORDS, pair_lengths, segmenter
from llm.data.tokens import tokenise
from tests.llm.data.synthetic import END, preferences, save_tokenizer, tokenizer
from theory.errors import UserError


def as_chat(dataset):
    def messages(row):
        return {"prompt": [{"role": "user", "content": row["prompt"]}]} | {
            side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")
        }

    return type(dataset).from_list([{"id": row["id"]} | messages(row) for row in dataset])


@pytest.mark.parametrize("form", [lambda data: data, as_chat], ids=["text", "messages"])
def test_lengths_are_trls(form):
    data = form(preferences(40))
    tokens = tokenise(data, tokenizer(), None)
    found = pair_lengths(data, segmenter(tokenizer()))
    for side, lengths in zip(("chosen", "rejected"), found, strict=True):
        assert [len(row["prompt_ids"]) + len(row[f"{side}_ids"]) for row in tokens] == lengths.tolist()


def test_an_end_token_is_not_counted_twice():
    data = preferences(3).map(lambda row: {"chosen": row["chosen"] + END})
    ended, plain = (pair_lengths(rows, segmenter(tokenizer()))[0] for rows in (data, preferences(3)))
    assert ended.tolist() == plain.tolist()


def test_words_are_counted_without_a_tokenizer():
    data = preferences(40)
    expected = [(len(f"{r['prompt']} {r['chosen']}".split()), len(f"{r['prompt']} {r['rejected']}".split())) for r in data]
    assert list(zip(*map(list, pair_lengths(data, WORDS)), strict=True)) == expected


@pytest.mark.parametrize("limit", [6, 10, 1024])
def test_rows_within_the_limit_are_kept_in_order(limit):
    data = preferences(60)
    kept = within_tokens(data, WORDS, limit)
    expected = [r["id"] for r in data if max(len((r["prompt"] + r[side]).split()) for side in ("chosen", "rejected")) <= limit]
    assert kept["id"][:] == expected


def test_limits_that_leave_nothing():
    with pytest.raises(UserError, match=r"--max-tokens 2: leaves no row: the shortest has \d+ words"):
        within_tokens(preferences(10), WORDS, 2)
    with pytest.raises(UserError, match="--max-tokens 0: must be at least 1"):
        within_tokens(preferences(10), WORDS, 0)


def test_messages_need_a_chat_template():
    plain = tokenizer()
    plain.chat_template = None
    with pytest.raises(UserError, match="has no chat template, which messages need"):
        pair_lengths(as_chat(preferences(2)), segmenter(plain))


def test_a_tokenizer_by_name(tmp_path):
    named = segmenter(str(save_tokenizer(tmp_path / "tokenizer")))
    assert named.cut(["hot tea"]) == tokenizer()(["hot tea"])["input_ids"]
    assert segmenter(None) is WORDS

"""Every way in which a row can be unfit is one error that names source, row and field."""

from __future__ import annotations

import hashlib
import json
import math

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.data.load import load_preferences
from llm.data.schema import PREFERENCES, Flaw, check, identity
from llm.data.scores import check_scores
from tests.llm.data.sources import write_jsonl
from theory.errors import UserError

GOOD = {"prompt": "Q:", "chosen": " yes", "rejected": " no"}
USER, YES, NO = ({"role": r, "content": c} for r, c in (("user", "Q?"), ("assistant", "yes"), ("assistant", "no")))
CHAT = {"prompt": [USER], "chosen": [YES], "rejected": [NO]}

BAD = {
    "missing chosen": ({"chosen": None}, "chosen", "is missing"),
    "missing rejected": ({"rejected": ...}, "rejected", "is missing"),
    "empty chosen": ({"chosen": ""}, "chosen", "is empty"),
    "blank rejected": ({"rejected": " \n\t"}, "rejected", "is empty"),
    "empty prompt": ({"prompt": ""}, "prompt", "is empty"),
    "equal": ({"rejected": " yes"}, "rejected", "equals chosen"),
    "number": ({"chosen": 42}, "chosen", "must be text or a list of messages, not int"),
    "truth value": ({"rejected": True}, "rejected", "not bool"),
    "NaN text": ({"chosen": math.nan}, "chosen", "not float"),
    "NaN confidence": ({"confidence": math.nan}, "confidence", "must be finite"),
    "infinite confidence": ({"confidence": math.inf}, "confidence", "must be finite"),
    "confidence as words": ({"confidence": "sure"}, "confidence", "must be a number or null"),
    "confidence as truth": ({"confidence": True}, "confidence", "must be a number or null"),
    "worker as list": ({"worker": ["w"]}, "worker", "must be text"),
    "id as list": ({"id": [1]}, "id", "must be text or a whole number"),
    "mixed forms": ({"chosen": [YES], "rejected": [NO], "prompt": 3}, "prompt", "must be a list of messages"),
}
BAD_CHATS = {
    "mixed forms": ({"chosen": "yes"}, "chosen", "is text but the prompt is a list of messages"),
    "no messages": ({"chosen": []}, "chosen", "has no messages"),
    "unknown role": ({"chosen": [YES | {"role": "gpt"}]}, "chosen.role", "must be one of"),
    "user in the reply": ({"rejected": [NO, USER, YES]}, "rejected.role", "must be assistant"),
    "no content": ({"chosen": [{"role": "assistant", "content": None}]}, "chosen.content", "must be text"),
    "blank content": ({"chosen": [YES | {"content": " "}]}, "chosen.content", "is empty"),
    "tool calls": ({"chosen": [YES | {"tool_calls": [1]}]}, "chosen", "only role and content are supported"),
    "another prompt": ({"chosen": [USER | {"content": "P?"}, YES]}, "chosen", "is not the prompt's"),
    "equal": ({"rejected": [YES]}, "rejected", "equals chosen"),
}


def changed(good: dict, change: dict) -> dict:
    return {key: value for key, value in (good | change).items() if value is not ...}


@pytest.mark.parametrize(
    ("good", "change", "field", "remedy"),
    [(GOOD, *bad) for bad in BAD.values()] + [(CHAT, *bad) for bad in BAD_CHATS.values()],
    ids=[f"text {name}" for name in BAD] + [f"chat {name}" for name in BAD_CHATS],
)
def test_a_bad_row_is_named(tmp_path, good, change, field, remedy):
    path = write_jsonl(tmp_path / "prefs.jsonl", [good, good | {"worker": "w"}, changed(good, change)])
    with pytest.raises(UserError) as caught:
        load_preferences(path)
    message = str(caught.value)
    assert message.startswith(f"--data {path}, row 3, field {field}"), message
    assert remedy in message
    assert "\n" not in message
    kept = load_preferences(path, drop_invalid=True)
    assert len(kept) == 2


def test_text_after_messages_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "prefs.jsonl", [GOOD, CHAT])
    with pytest.raises(UserError, match=r"row 2, field prompt: is text where earlier rows have messages"):
        load_preferences(path)


def test_columns_that_are_no_preferences(tmp_path):
    path = write_jsonl(tmp_path / "prefs.jsonl", [{"prompt": "Q", "answer": "A"}])
    with pytest.raises(UserError, match=r"has the columns answer, prompt; a preference set has prompt, chosen and rejected"):
        load_preferences(path)


def test_the_id_is_the_hash_of_the_texts_and_repetitions_are_told_apart(tmp_path):
    path = write_jsonl(tmp_path / "prefs.jsonl", [GOOD | {"worker": w} for w in ("a", "b", "c")])
    digest = hashlib.sha256(json.dumps(["Q:", " yes", " no"]).encode()).hexdigest()
    assert load_preferences(path)["id"] == [digest, f"{digest}-2", f"{digest}-3"]
    assert load_preferences(path, limit=2)["id"] == [digest, f"{digest}-2"]


def test_ids_of_the_source_are_kept_and_must_be_unique(tmp_path):
    path = write_jsonl(tmp_path / "prefs.jsonl", [GOOD | {"id": 7}, GOOD | {"id": "b"}])
    assert load_preferences(path)["id"] == ["7", "b"]
    write_jsonl(path, [GOOD | {"id": "b"}, GOOD, GOOD | {"id": "b"}])
    with pytest.raises(UserError, match=r"row 3, field id 'b': is also the id of row 1"):
        load_preferences(path)


def flaw_of(record: dict) -> Flaw | None:
    try:
        check(record, PREFERENCES)
    except Flaw as flaw:
        return flaw
    return None


TEXTS = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=3),
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant", "x", None]), "content": st.one_of(st.none(), st.text(max_size=2))}
        ),
        max_size=2,
    ),
)


@given(st.fixed_dictionaries({"prompt": TEXTS, "chosen": TEXTS, "rejected": TEXTS, "confidence": TEXTS}))
def test_any_row_is_sound_or_has_a_flaw(record):
    """Whatever is accepted satisfies the format's definition, written out here once more."""
    flaw = flaw_of(record)
    if flaw is not None:
        assert "\n" not in str(flaw.error("x", 1))
        return
    prompt, chosen, rejected = (record[name] for name in ("prompt", "chosen", "rejected"))
    assert chosen != rejected
    assert record["confidence"] is None or math.isfinite(record["confidence"])
    if isinstance(prompt, str):
        assert prompt != ""
        assert all(isinstance(text, str) and not text.isspace() and text for text in (chosen, rejected))
    else:
        assert all(turn["role"] == "assistant" and turn["content"].strip() for turn in chosen + rejected)
        assert all(isinstance(turn["content"], str) for turn in prompt)


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_different_texts_have_different_ids(pairs):
    first, second = (dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in pairs)
    assert identity(first, PREFERENCES) != identity(second, PREFERENCES)


COLUMNS = ("reward_chosen", "reward_rejected")


@pytest.mark.parametrize(
    ("chosen", "rejected", "remedy"),
    [
        ([1.0, None], [0.0, 0.0], r"row 2, field reward_chosen: has no score"),
        ([1.0, 2.0], [0.0, math.nan], r"row 2, field reward_rejected nan: must be finite"),
        ([[1.0, 2.0], [1.0]], [[0.0, 1.0], [0.0, 1.0]], r"row 2, field reward_chosen: is from 1 ensemble members .* from 2"),
        ([1.0, 2.0], [[0.0, 1.0], [0.0, 1.0]], r"row 1, field reward_rejected: is from 2 ensemble members .* from 1"),
        ([[], [1.0]], [[1.0], [1.0]], r"row 1, field reward_chosen \[\]: has no score"),
        ([["a"], ["b"]], [["a"], ["b"]], r"row 1, field reward_chosen 'a': must be a number"),
    ],
)
def test_bad_scores_are_named(chosen, rejected, remedy):
    dataset = datasets.Dataset.from_dict({"reward_chosen": chosen, "reward_rejected": rejected})
    with pytest.raises(UserError, match=remedy):
        check_scores(dataset, COLUMNS)


def test_sound_scores_tell_the_size_of_the_ensemble():
    assert check_scores(datasets.Dataset.from_dict({"reward_chosen": [1.0], "reward_rejected": [0.5]}), COLUMNS) == 1
    assert check_scores(datasets.Dataset.from_dict({"reward_chosen": [[1.0] * 3], "reward_rejected": [[0.5] * 3]}), COLUMNS) == 3
    with pytest.raises(UserError, match=r"field reward_rejected: is missing: score the data first"):
        check_scores(datasets.Dataset.from_dict({"reward_chosen": [1.0]}), COLUMNS)

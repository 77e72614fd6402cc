"""Each adapter on rows of its source's true schema, against rows written by hand."""

from __future__ import annotations

import pytest

from llm.data.adapters import adapters, for_hub, named, recognise
from llm.data.load import load, load_demonstrations, load_preferences, load_prompts
from tests.llm.data.sources import FIXTURES, SCHEMAS, as_parquet, rows, write_jsonl
from theory.errors import UserError

PREFERENCE_SETS = ("summarize_from_feedback", "carper_comparisons", "ultrafeedback_argilla", "ultrafeedback_h4")
KETTLE = "SUBREDDIT: r/tea\n\nTITLE: Is my kettle haunted?\n\nPOST: The kettle hums at night.\nNobody is awake.\n\nTL;DR:"


@pytest.fixture(params=["jsonl", "parquet"])
def fixture(request, tmp_path):
    """The same rows as JSON lines and as the Parquet shards of a clone."""

    def folder(name):
        return FIXTURES / name if request.param == "jsonl" else as_parquet(name, tmp_path / name)

    return folder


def pairs(dataset, *columns):
    return [tuple(row[name] for name in columns) for row in dataset]


def turn(role, content):
    return [{"role": role, "content": content}]


def test_comparisons_of_posts(fixture):
    loaded = load(fixture("summarize_from_feedback"))
    assert (loaded.adapter.name, loaded.split, loaded.rows, loaded.repeated) == ("summarize-from-feedback", "train", 12, 1)
    assert loaded.dropped == {"equal": 1, "empty": 1}
    assert pairs(loaded.dataset, "chosen", "rejected", "confidence", "worker", "choice", "chosen_policy") == [
        (" My kettle is haunted, help.", " Kettle hums at night.", None, "w1", 1, "ref"),
        (" Kettle hums at night.", " A kettle makes a noise.", 8.0, "w1", 0, "sup1"),
        (" Kettle hums at night.", " A kettle makes a noise.", 5.0, "w2", 0, "sup1"),
        (" A kettle makes a noise.", " Kettle hums at night.", 2.0, "w3", 1, "ref"),
        (" Milk goes first.", " Milk.", 9.0, "w2", 0, "sup1"),
        (" The tea has 40 °C, which is cold for a tea.", " Tea is cold.", 7.0, "w2", 1, "ref"),
        (" Dog ate homework.", " The dog ate it.", 3.0, "w3", 0, "sup1"),
        (" Dog ate homework.", " Homework is gone now.", 9.0, "w3", 0, "sup1"),
        (" Lost my umbrella on train.", " Lost umbrella on train.", 1.0, "w1", 1, "ref"),
        (" I can not sleep at night, what should I do?", " Cannot sleep at all.", 6.0, "w1", 1, "ref"),
    ]
    assert loaded.dataset["prompt"][:4] == [KETTLE] * 4
    assert loaded.dataset["prompt"][5] == "SUBREDDIT: r/tee\n\nTITLE: \n\nPOST: Mein Tee ist kalt – 40 °C.\n\nTL;DR:"
    assert set(loaded.dataset["split"]) == {"train"}
    assert len(set(loaded.dataset["id"])) == 10
    assert loaded.dataset.column_names[:7] == ["id", "prompt", "chosen", "rejected", "confidence", "worker", "split"]


def test_comparisons_of_articles_and_the_two_validation_sets(fixture):
    folder = fixture("summarize_from_feedback")
    validation = load_preferences(folder, split="validation")
    article = "Article:\nA ship ran aground.\nNo one was hurt.\n\nTL;DR:\n"
    assert pairs(validation, "prompt", "chosen", "rejected", "domain", "split")[:2] == [
        (article, "Ship aground; nobody hurt.", "A ship ran aground.", "cnndm", "valid1"),
        (article, "A ship ran aground.", "The ship sank.", "cnndm", "valid2"),
    ]
    assert load_preferences(folder, split="valid1")["chosen"] == ["Ship aground; nobody hurt.", " Bought a boat."]
    assert load_preferences(folder, split="valid2")["chosen"] == ["A ship ran aground.", " Sold the boat, no regrets."]
    assert load(folder, split="valid2").split == "valid2"


def test_carper_comparisons(fixture):
    loaded = load(fixture("carper_comparisons"))
    assert loaded.adapter.name == "carper-comparisons"
    assert loaded.dropped == {"equal": 1, "empty": 1}
    first, milk, book = loaded.dataset[0], loaded.dataset[1], loaded.dataset[2]
    assert (first["prompt"], first["chosen"], first["rejected"]) == (
        KETTLE,
        " My kettle is haunted, help.",
        " Kettle hums at night.",
    )
    assert milk["prompt"] == "SUBREDDIT: r/tea\n\nTITLE: Milk\n\nPOST: Milk first, always.\n\nTL;DR:"
    assert (milk["chosen"], milk["rejected"]) == (" Milk goes first.", " Milk.")
    assert book["prompt"] == "SUBREDDIT: r/books\n\nTITLE: TITLE: a book\n\nPOST: TL;DR: is also a word.\nPOST: too\n\nTL;DR:"
    assert (book["chosen"], book["rejected"]) == (" TL;DR: is a word.", " Words.")
    assert "confidence" not in loaded.dataset.column_names


def test_the_same_comparison_has_the_same_id_in_both_sources():
    original, copy = (load_preferences(FIXTURES / name) for name in ("summarize_from_feedback", "carper_comparisons"))
    assert original["id"][0] == copy["id"][0]
    assert original["id"][4] == copy["id"][1]


def test_carper_summaries(fixture):
    demonstrations = load_demonstrations(fixture("carper_tldr"))
    assert demonstrations.column_names == ["id", "prompt", "completion", "split"]
    assert pairs(demonstrations, "prompt", "completion")[:2] == [
        ("SUBREDDIT: r/tea\n\nTITLE: Milk\n\nPOST: Milk first, always.\n\nTL;DR:", " Milk goes first."),
        ("SUBREDDIT: r/tea\n\nTITLE: Kettle\n\nPOST: It hums.\n\nAt night.\n\nTL;DR:", " Kettle hums."),
    ]
    assert len(demonstrations) == 11
    assert load_demonstrations(FIXTURES / "carper_tldr", split="validation")["completion"] == [" Yes."]
    with pytest.raises(UserError, match="holds demonstrations, not preferences"):
        load_preferences(FIXTURES / "carper_tldr")


def test_a_prompt_of_another_form_is_named(tmp_path):
    good = rows("carper_tldr", "train")[0]
    path = write_jsonl(tmp_path / "tldr.jsonl", [good, good | {"prompt": "Summarise: tea"}])
    with pytest.raises(UserError, match=r"row 2, field prompt 'Summarise: tea': must read SUBREDDIT"):
        load_demonstrations(path)


def test_argilla(fixture):
    loaded = load(fixture("ultrafeedback_argilla"))
    assert loaded.adapter.name == "ultrafeedback-argilla"
    assert loaded.dropped == {"equal": 1, "empty": 1}
    assert not any("-" in name for name in loaded.dataset.column_names)
    assert loaded.dataset[0] | {"id": None} == {
        "id": None,
        "prompt": turn("user", "Name a colour."),
        "chosen": turn("assistant", "Blue."),
        "rejected": turn("assistant", "No."),
        "split": "train",
        "chosen_rating": 4.75,
        "chosen_model": "gpt-4",
        "rejected_rating": 1.5,
        "rejected_model": "bard",
        "source": "evol_instruct",
    }
    # The user's turn goes once: a reply that repeats it stays.
    assert loaded.dataset[1]["chosen"] == turn("assistant", "Repeat: Repeat: a")
    # A prompt that differs from its turn by white space is the same prompt; texts stay as they are.
    assert (loaded.dataset[2]["prompt"], loaded.dataset[2]["rejected"]) == (
        turn("user", "Say hello.\n"),
        turn("assistant", "  hello"),
    )
    assert loaded.dataset[3]["chosen_rating"] is None
    assert loaded.dataset[9]["chosen"] == turn("assistant", "1 2 3 4 5 6")


def test_h4(fixture):
    folder = fixture("ultrafeedback_h4")
    loaded = load(folder)
    assert (loaded.adapter.name, loaded.split) == ("ultrafeedback-h4", "train_prefs")
    assert loaded.dropped == {"equal": 1, "empty": 1}
    assert "messages" not in loaded.dataset.column_names
    assert pairs(loaded.dataset, "prompt", "chosen", "rejected", "chosen_rating", "rejected_rating")[1] == (
        turn("user", "Echo"),
        turn("assistant", "Echo"),
        turn("assistant", "Echo, echo"),
        8.0,
        7.5,
    )
    # Two rows of one prompt share the source's prompt_id, which is therefore no id.
    assert loaded.dataset["prompt_id"][0] == loaded.dataset["prompt_id"][2]
    assert len(set(loaded.dataset["id"])) == 10
    assert load(folder, split="test").dataset["chosen"] == [turn("assistant", "Tested.")]
    assert load(folder, split="test").split == "test_prefs"


def test_articles_as_prompts(fixture):
    loaded = load(fixture("cnn_dailymail"), None)
    assert (loaded.kind.name, loaded.repeated, len(loaded.dataset)) == ("prompts", 1, 11)
    assert pairs(loaded.dataset, "prompt", "reference", "article_id")[0] == (
        "Article:\nA ship ran aground.\nNo one was hurt.\n\nTL;DR:\n",
        "Ship aground .\nNobody hurt .",
        "0a1b",
    )
    with pytest.raises(UserError, match="holds prompts, not demonstrations"):
        load_demonstrations(FIXTURES / "cnn_dailymail")


@pytest.mark.parametrize("name", PREFERENCE_SETS)
def test_preferences_serve_as_demonstrations_and_prompts(name):
    preferences = load_preferences(FIXTURES / name)
    demonstrations, prompts = load_demonstrations(FIXTURES / name), load_prompts(FIXTURES / name)
    # A pair of equal responses is no comparison, but its response is one to learn from.
    chosen = pairs(preferences, "prompt", "chosen")
    assert [pair for pair in pairs(demonstrations, "prompt", "completion") if pair in chosen] == chosen
    assert len(demonstrations) > len(chosen)
    assert len(prompts) == len({repr(prompt) for prompt in demonstrations["prompt"]}) <= len(demonstrations)


GENERIC = {
    "text": ({"prompt": "Q:", "chosen": " yes", "rejected": " no"}, ("Q:", " yes", " no")),
    "text without prompt": ({"chosen": "Q: yes", "rejected": "Q: no"}, ("Q:", " yes", " no")),
    "messages": (
        {"prompt": turn("user", "Q"), "chosen": turn("assistant", "Y"), "rejected": turn("assistant", "N")},
        (turn("user", "Q"), turn("assistant", "Y"), turn("assistant", "N")),
    ),
    "messages without prompt": (
        {"chosen": turn("user", "Q") + turn("assistant", "Y"), "rejected": turn("user", "Q") + turn("assistant", "N")},
        (turn("user", "Q"), turn("assistant", "Y"), turn("assistant", "N")),
    ),
    "prompt repeated in messages": (
        {
            "prompt": turn("system", "S") + turn("user", "Q"),
            "chosen": turn("system", "S") + turn("user", "Q") + turn("assistant", "Y"),
            "rejected": turn("system", "S") + turn("user", "Q") + turn("assistant", "N"),
        },
        (turn("system", "S") + turn("user", "Q"), turn("assistant", "Y"), turn("assistant", "N")),
    ),
    "textual prompt and replies": (
        {"prompt": "Q", "chosen": turn("assistant", "Y"), "rejected": turn("assistant", "N")},
        (turn("user", "Q"), turn("assistant", "Y"), turn("assistant", "N")),
    ),
    "textual prompt and whole conversations": (
        {
            "prompt": "Q",
            "chosen": turn("system", "S") + turn("user", "Q") + turn("assistant", "Q"),
            "rejected": turn("system", "S") + turn("user", "Q") + turn("assistant", "N"),
        },
        (turn("system", "S") + turn("user", "Q"), turn("assistant", "Q"), turn("assistant", "N")),
    ),
}


@pytest.mark.parametrize("name", GENERIC)
def test_formats_of_trl(tmp_path, name):
    raw, expected = GENERIC[name]
    path = write_jsonl(tmp_path / "prefs.jsonl", [raw | {"margin": 0.5, "confidence": 3, "tags": ["a"]}])
    dataset = load_preferences(path)
    assert pairs(dataset, "prompt", "chosen", "rejected") == [expected]
    assert pairs(dataset, "margin", "confidence", "tags") == [(0.5, 3.0, ["a"])]


@pytest.mark.parametrize("name", [name for name in GENERIC if "without prompt" in name])
def test_an_implicit_prompt_is_trls(name):
    from trl.data_utils import maybe_extract_prompt

    raw, expected = GENERIC[name]
    assert tuple(maybe_extract_prompt(raw)[key] for key in ("prompt", "chosen", "rejected")) == expected


def test_no_common_beginning_is_no_prompt(tmp_path):
    path = write_jsonl(tmp_path / "prefs.jsonl", [{"chosen": "yes", "rejected": "no"}])
    with pytest.raises(UserError, match=r"row 1, field prompt: is missing, and chosen and rejected do not begin alike"):
        load_preferences(path)


BAD_COMPARISONS = {
    "choice": ({"choice": 2}, r"field choice 2: must be 0 or 1"),
    "one summary": ({"summaries": [{"text": " a"}]}, r"field summaries: must be a list of two"),
    "no text": ({"summaries": [{"text": " a"}, {"text": None}]}, r"field summaries.text: is missing"),
    "a number": ({"summaries": [{"text": " a"}, {"text": 4}]}, r"field summaries.text 4: must be text, not int"),
    "no subreddit": ({"info": {"post": "p", "title": "t"}}, r"field info.subreddit: is missing"),
    "neither post nor article": ({"info": {"subreddit": "s", "title": "t"}}, r"field info.post: is missing"),
    "confidence": ({"extra": {"confidence": "high"}}, r"field extra.confidence 'high': must be a number or null"),
    "NaN": ({"extra": {"confidence": float("nan")}}, r"field extra.confidence nan: must be finite"),
}


@pytest.mark.parametrize("name", BAD_COMPARISONS)
def test_bad_comparisons_are_named(tmp_path, name):
    change, remedy = BAD_COMPARISONS[name]
    good = rows("summarize_from_feedback", "train")[1]
    path = write_jsonl(tmp_path / "comparisons.jsonl", [good, good | change])
    with pytest.raises(UserError, match=f"row 2, {remedy}"):
        load_preferences(path)
    assert len(load_preferences(path, drop_invalid=True)) == 1


def test_published_flaws_are_refused_on_request():
    with pytest.raises(UserError, match=r"row 5, field rejected: equals chosen"):
        load_preferences(FIXTURES / "summarize_from_feedback", drop_invalid=False)


def test_the_registry():
    assert {"trl", "summarize-from-feedback", "ultrafeedback-argilla"} <= set(adapters())
    assert for_hub("OpenAI/summarize_from_feedback") is named("summarize-from-feedback")
    assert for_hub("someone/else") is None
    with pytest.raises(UserError, match="--adapter ultrafeedback-arg: did you mean ultrafeedback-argilla"):
        named("ultrafeedback-arg")
    ids = [hub_id for adapter in adapters().values() for hub_id in adapter.hub_ids]
    assert len(ids) == len(set(ids))
    for adapter in adapters().values():
        assert adapter.whitespace.endswith(".")


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_fixture_is_recognised_by_its_columns(name):
    split = next(iter((FIXTURES / name).glob("t*.jsonl"))).stem
    adapter = recognise("x", rows(name, split)[0])
    assert adapter.name.replace("-", "_") == name
    # A text that merely has the columns of a more special source is taken by the general adapter.
    assert recognise("x", {"prompt": "Q", "chosen": "a", "rejected": "b"}).name == "trl"

"""Every kind of local file gives the same rows; splits are found; the Hub's refusals are one line."""

from __future__ import annotations

import csv
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm.data import hub
from llm.data.load import load, load_preferences
from tests.llm.data.sources import FIXTURES, rows, write_jsonl
from theory.errors import UserError

ROWS = [
    {"prompt": "Q:", "chosen": ' "yes",\nshe said', "rejected": " 42", "confidence": 1.5, "worker": "w1", "split": "train"},
    {"prompt": "P:", "chosen": " ja – ¿sí?", "rejected": " no", "confidence": None, "worker": None, "split": "test"},
]


def as_jsonl(path):
    return write_jsonl(path / "prefs.jsonl", ROWS)


def as_json(path):
    (path / "prefs.json").write_text("﻿" + json.dumps(ROWS, indent=1), encoding="utf-8")
    return path / "prefs.json"


def as_json_with_lines(path):
    return write_jsonl(path / "lines.json", ROWS)


def as_csv(path):
    with (path / "prefs.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    return path / "prefs.csv"


def as_parquet(path):
    pq.write_table(pa.Table.from_pylist(ROWS), path / "prefs.parquet")
    return path / "prefs.parquet"


def as_arrow_stream(path):
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(path / "prefs.arrow"), table.schema) as writer:
        writer.write_table(table)
    return path / "prefs.arrow"


def as_arrow_file(path):
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(str(path / "file.arrow"), table.schema) as writer:
        writer.write_table(table)
    return path / "file.arrow"


def as_saved(path):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(path / "saved"))
    return path / "saved"


WRITERS = (as_jsonl, as_json, as_json_with_lines, as_csv, as_parquet, as_arrow_stream, as_arrow_file, as_saved)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path, writer):
    path = writer(tmp_path)
    dataset = load_preferences(path)
    assert dataset.remove_columns("id").to_list() == ROWS
    assert dataset["id"][:] == load_preferences(as_jsonl(tmp_path))["id"][:]
    assert dataset.features["confidence"].dtype == "float64"
    assert load_preferences(path, split="test")["prompt"][:] == ["P:"]
    assert load_preferences(path, limit=1)["prompt"][:] == ["Q:"]


def test_a_saved_dataset_dict_has_its_splits(tmp_path):
    parts = {name: datasets.Dataset.from_list([row | {"split": None}]) for name, row in zip(("train", "test"), ROWS, strict=True)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    assert load_preferences(tmp_path / "saved")["prompt"][:] == ["Q:"]
    test = load_preferences(tmp_path / "saved", split="test")
    assert (test["prompt"][:], test["split"][:]) == (["P:"], ["test"])


def test_rows_of_shards_are_numbered_through(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_jsonl(folder / "train-00000-of-00002.jsonl", ROWS)
    write_jsonl(folder / "train-00001-of-00002.jsonl", [ROWS[0], ROWS[1] | {"chosen": ""}])
    with pytest.raises(UserError, match=r"row 4, field chosen '': is empty"):
        load_preferences(tmp_path)
    assert len(load_preferences(tmp_path, limit=3)) == 3


def test_which_split_is_read(tmp_path):
    for name in ("one", "two"):
        write_jsonl(tmp_path / f"{name}.jsonl", [ROWS[0] | {"split": None, "prompt": name}])
    with pytest.raises(UserError, match=r"--split: is needed: there are one, two"):
        load_preferences(tmp_path)
    assert load_preferences(tmp_path, split="two")["prompt"][:] == ["two"]
    with pytest.raises(UserError, match=r"--split thow: did you mean two\?"):
        load_preferences(tmp_path, split="thow")
    path = as_jsonl(tmp_path)
    with pytest.raises(UserError, match=rf"--split valid: has no row in {path}; found test, train"):
        load_preferences(path, split="valid")
    with pytest.raises(UserError, match="--limit 0: must be at least 1"):
        load_preferences(path, limit=0)


BROKEN = {
    "no such file": ("absent.jsonl", None, "does not exist"),
    "no such folder": ("absent/deep/folder", None, "does not exist"),
    "empty file": ("empty.jsonl", b"", "has no rows"),
    "empty list": ("empty.json", b"[]", "has no rows"),
    "unknown ending": ("prefs.xlsx", b"x", "is none of .parquet, .arrow, .jsonl, .csv, .json"),
    "not JSON": ("prefs.jsonl", b'{"prompt": "Q", "chosen": "a", "rejected": "b"}\n{"chosen": \n', "row 2: is not JSON"),
    "no object": ("prefs.jsonl", b"[1]\n", "row 1: must be a JSON object, not list"),
    "not UTF-8": ("prefs.jsonl", b'{"chosen": "\xff"}', "is not UTF-8 text"),
    "no Parquet": ("prefs.parquet", b"PAR0", "is not a readable .parquet file"),
    "no Arrow": ("prefs.arrow", b"arrow" * 20, "is not a readable .arrow file"),
    "ragged CSV": ("prefs.csv", b"prompt,chosen,rejected\na,b,c\na,b\n", "is not a readable .csv file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_line(tmp_path, name):
    file, content, remedy = BROKEN[name]
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_preferences(tmp_path / file)
    message = str(caught.value)
    assert message.startswith(f"--data {tmp_path / file}")
    assert remedy in message
    assert "\n" not in message


def test_a_folder_without_data(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="has no file with one of the endings"):
        load_preferences(tmp_path)


def test_a_broken_dataset_dict(tmp_path):
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(UserError, match="does not list splits"):
        load_preferences(tmp_path)


def test_columns_of_several_types_are_named(tmp_path):
    path = write_jsonl(tmp_path / "prefs.jsonl", [ROWS[0] | {"margin": 1}, ROWS[1] | {"margin": "much"}])
    with pytest.raises(UserError, match=r"column margin: has values of different types"):
        load_preferences(path)


def test_many_rows_are_gathered_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("llm.data.build.BATCH", 3)
    path = write_jsonl(tmp_path / "prefs.jsonl", [ROWS[0] | {"margin": None if i < 5 else float(i)} for i in range(10)])
    dataset = load_preferences(path)
    assert dataset["margin"][:] == [None] * 5 + [5.0, 6.0, 7.0, 8.0, 9.0]
    assert len(set(dataset["id"][:])) == 10


def test_no_network_is_one_line():
    """The test run is offline (HF_HUB_OFFLINE), so this is the library's own error."""
    for hub_id in ("openai/summarize_from_feedback", "someone/unknown"):
        with pytest.raises(UserError, match=rf"--data {hub_id}: cannot be reached and is not in the cache: connect"):
            load_preferences(hub_id)


def test_the_hub_is_asked_for_the_adapters_configuration_and_split(monkeypatch):
    asked = []

    def fake(hub_id, config, split=None, revision=None):
        asked.append((hub_id, config, split, revision))
        found = {file.stem: datasets.Dataset.from_list(rows(name, file.stem)) for file in (FIXTURES / name).glob("*.jsonl")}
        return found[split] if split else datasets.DatasetDict(found)

    monkeypatch.setattr(datasets, "load_dataset", fake)
    name = "summarize_from_feedback"
    assert len(load_preferences("openai/summarize_from_feedback", split="valid2")) == 2
    assert len(load_preferences("someone/copy:main")) == 10
    name = "ultrafeedback_h4"
    assert load("HuggingFaceH4/ultrafeedback_binarized", split="test").split == "test_prefs"
    assert asked == [
        ("openai/summarize_from_feedback", "comparisons", "validation", None),
        ("someone/copy", "main", None, None),
        ("HuggingFaceH4/ultrafeedback_binarized", None, "test_prefs", None),
    ]


def test_a_repository_that_is_a_program_is_read_from_its_parquet_copy(monkeypatch):
    asked = []

    def fake(hub_id, config, split=None, revision=None):
        asked.append(revision)
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found data.py")
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", fake)
    assert list(hub.load("someone/data", None, "train")) == ["train"]
    assert asked == [None, "refs/convert/parquet"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError("Unknown split \"x\". Should be one of ['train']."),
            r"--split x: is no split of this data set: \"x\". Should be",
        ),
        (
            ValueError("BuilderConfig 'x' not found. Available: ['a']\nmore"),
            r"--data a/b: cannot be loaded: BuilderConfig 'x' not found",
        ),
        (datasets.exceptions.DatasetNotFoundError("gone"), r"--data a/b: is no file, and no data set of the Hub"),
        (datasets.exceptions.DatasetGenerationError("broken\nfile"), r"--data a/b: cannot be loaded: broken$"),
    ],
)
def test_refusals_of_the_hub_are_one_line(monkeypatch, error, message):
    def fake(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fake)
    with pytest.raises(UserError, match=message):
        load_preferences("a/b", split="x")

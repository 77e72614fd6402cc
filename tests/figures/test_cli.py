"""`figures` as a user runs it, in this process, on figures made up here."""

from __future__ import annotations

import csv
import json
import math

import pandas as pd
import pytest

from figures import page


def test_list_names_every_figure(figures):
    listed = figures("list").out
    for words in ("squares", "squares & more", "nowhere Fig. 1", "lines", "runs"):
        assert words in listed
    records = {record["name"]: record for record in figures("list", "--json").json}
    assert list(records) == ["lines", "runs", "squares"]
    assert records["squares"]["config"] == {"last": 5, "power": 2}
    assert records["squares"]["results"] is None
    assert records["runs"]["results"] == {"file": "runs.parquet", "command": "llm consistency --out nowhere"}


def test_build_and_build_again(figures, tmp_path, computed):
    first = figures("build", "squares", "--formats", "svg")
    assert first.code == 0
    assert "The <largest> square is 25." in " ".join(first.out.split())
    assert "1 figure in pictures; pictures/index.html shows all that are there" in first.out
    assert first.err == ""
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"squares.svg", "squares.txt", "squares.json", page.NAME}
    (again,) = figures("build", "squares", "--formats", "svg", "--json").json
    assert (again["data"], again["files"]) == ("unchanged", ["pictures/squares.svg"])
    assert again["caption"] == (tmp_path / "pictures" / "squares.txt").read_text().strip()
    assert len(computed) == 1


def test_build_all_and_fast(figures, runs):
    built = figures("build", "--all", "--fast", "--jobs", 1, "--formats", "svg", "--results", runs, "--json").json
    assert [one["name"] for one in built] == ["lines", "runs", "squares"]
    assert "3 numbers" in built[2]["caption"]


def test_names_are_built_once_in_the_order_given(figures):
    built = figures("build", "squares", "lines", "squares", "--jobs", 1, "--formats", "svg", "--json").json
    assert [one["name"] for one in built] == ["squares", "lines"]


@pytest.mark.parametrize("command", [("build", "squares", "--formats", "svg"), ("data", "squares")])
def test_a_broken_cache_is_rebuilt_and_said_so(figures, tmp_path, command):
    intact = figures("data", "squares", "--json").json
    (path,) = (tmp_path / "cache" / "figures").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    ran = figures(*command)
    assert ran.code == 0
    assert ran.err == "squares: the cached data could not be read and were computed again\n"
    assert figures("data", "squares", "--json").json == intact


def test_data_shows_the_table(figures, computed):
    ran = figures("data", "squares", "--fast")
    assert "squares & more" in ran.out
    assert "3 rows" in ran.out
    assert computed == [type(computed[0])(last=3)]


def test_data_in_json_has_null_for_what_is_not_finite(figures):
    record = figures("data", "squares", "--json").json
    assert record["figure"] == "squares"
    assert [row["y"] for row in record["rows"]] == [None, 4, 9, 16, 25]
    assert [row["method"] for row in record["rows"]] == ["dpo", "rkl", "dpo", "rkl", "dpo"]
    assert figures("data", "lines", "--json").json["rows"][-1] == {"x": None, "y": None}


def test_data_in_files(figures, tmp_path):
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        ran = figures("data", "lines", "--out", tmp_path / name)
        assert ran.code == 0
        assert f"3 rows, in {tmp_path / name}" in ran.out
    assert pd.read_parquet(tmp_path / "t.parquet")["y"].tolist() == [0, 2, math.inf]
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [float(row["y"]) for row in rows] == [0, 2, math.inf]
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [line["x"] for line in lines] == [0, 1, None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("build", "square"), "NAME square: did you mean squares?"),
        (("data", "square"), "NAME square: did you mean squares?"),
        (("build",), "NAME: name figures, or give --all; see figures list"),
        (("build", "squares", "--all"), "--all: builds every figure: leave out squares"),
        (("build", "squares", "--formats", "gif"), "--formats gif: "),
        (("build", "squares", "--formats", "pdff"), "did you mean pdf?"),
        (("build", "squares", "--formats", ","), "name at least one of pdf, svg, png"),
        (("build", "squares", "--jobs", "0"), "--jobs 0: must be a number of processes"),
        (("build", "squares", "--jobs", "-2"), "--jobs -2: must be a number of processes"),
        (("build", "runs"), "--results nowhere/runs.parquet: is missing; make it with: llm consistency --out nowhere"),
        (("build", "--all"), "--results nowhere/runs.parquet: is missing"),
        (("data", "runs", "--results", "none"), "--results none/runs.parquet: is missing; make it with: llm consistency"),
        (("build", "squares", "--out", "file"), "--out file: cannot be written: File exists"),
        (("build", "squares", "--out", "file/below"), "--out file/below: cannot be written: Not a directory"),
        (("build", "squares", "--cache", "file"), "--cache file: cannot be written: File exists"),
        (("data", "squares", "--cache", "file"), "--cache file/figures: cannot be written: Not a directory"),
        (("data", "squares", "--out", "t.xlsx"), "--out t.xlsx: must end in .parquet, .csv, .jsonl"),
        (("data", "squares", "--out", "none/t.csv"), "--out none/t.csv: its folder does not exist"),
        (("data", "squares", "--out", "folder"), "--out folder: is a directory; give a file name"),
        (("biuld", "squares"), "biuld"),
        (("build", "squares", "--form", "svg"), "--form"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_computed(figures, tmp_path, computed, arguments, words):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert words in figures(*arguments).error
    assert computed == []


def test_a_table_that_cannot_be_written_is_one_line(figures, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    figures("data", "squares")
    monkeypatch.setattr("theory.files.os.replace", refuse)
    assert figures("data", "squares", "--out", tmp_path / "t.csv").error.endswith("cannot be written: No space left on device")
    assert not list(tmp_path.glob(".*"))

"""`llm consistency` as a user types it."""

import json

import pyarrow.parquet as pq
import pytest

WORLD = ("--tokens", "3", "--length", "2", "--prompts", "2")
SHORT = ("--n", "30,60", "--seeds", "1", "--max-steps", "2", "--jobs", "1")


@pytest.fixture
def study(run, tmp_path, monkeypatch):
    """The command on a small world, from a reference that is fitted for a few steps only."""
    from llm.consistency import run as running
    from llm.world.reference import Fitting, fit_reference

    quick = Fitting(layers=1, width=16, heads=2, batch=16, steps=5, warmup=1)
    monkeypatch.setattr(running, "fit_reference", lambda language, cache, fitting: fit_reference(language, cache, quick))
    return lambda *words: run("consistency", "--out", tmp_path / "out", *WORLD, *SHORT, *words)


def test_rows_picture_and_a_table_for_people(study, tmp_path):
    done = study("--methods", "pmle,drdo")
    assert done.code == 0
    for words in (
        "pmle (β = 0)",
        "drdo (α = 0.1, γ_f = 2)",
        "forward KL to the target, nats",
        "distilled reward: the Bradley–Terry table",
    ):
        assert words in done.out, done.out
    assert "… reference policy" in done.err
    assert (tmp_path / "out" / "consistency.png").read_bytes().startswith(b"\x89PNG")
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert [(row["method"], row["n"]) for row in rows] == [("pmle", 30), ("pmle", 60), ("drdo", 30), ("drdo", 60)]
    record = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert {"instance", "seed", "version", "fitting"} <= set(record)


def test_json_is_one_object_and_a_second_start_says_what_was_there(study, tmp_path):
    picture = tmp_path / "picture.svg"
    words = ("--methods", "dpo", "--beta", "0.5", "--picture", picture, "--json")
    first = study(*words)
    assert first.err == ""
    (dpo,) = first.json["methods"]
    assert (dpo["method"], dpo["hyper"], dpo["n"]) == ("dpo", {"beta": 0.5}, [30.0, 60.0])
    assert {"mean", "low", "high", "table", "floor", "gradient", "off"} <= set(dpo)
    assert (first.json["picture"], first.json["reward"]) == (str(picture), None)
    assert picture.read_text().startswith("<?xml")
    again = study(*words)
    assert again.err == "2 of 2 runs were there already\n"
    assert again.json == first.json


def test_a_users_own_loss(study, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def mine(pair, *, scale: float = 2.0):\n    return (scale - pair.logratio_margin) ** 2\n")
    done = study("--methods", "", "--objective", f"{file}:mine", "--scale=3", "--learning-rate", "1e-4", "--json").json
    assert [(line["method"], line["hyper"]) for line in done["methods"]] == [("mine", {"scale": 3.0})]
    (row, _) = pq.read_table(done["results"]).to_pylist()
    assert json.loads(row["training"])["learning_rate"] == 1e-4
    assert "scale - pair.logratio_margin" in row["source"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "dpi"), "METHOD dpi: is not a known objective; did you mean dpo?"),
        (("--n", "1e3:1e6"), "--n 1e3:1e6: must be LOW:HIGH:COUNT or a list such as 1e3,1e5"),
        (("--seeds", "0"), "--seeds 0: must be at least 1"),
        (("--jobs", "0"), "--jobs 0: must be a number of processes, or -1 for one a core"),
        (("--picture", "a.gif"), "--picture a.gif: must end in .png, .pdf, .svg"),
        (("--picture", "/nowhere/a.png"), "--picture /nowhere/a.png: its folder does not exist"),
        (("--tokens", "1"), "--tokens 1: must be a whole number, at least 2"),
        (("--world-seed", "-1"), "--world-seed -1: must be zero or positive"),
        (("--max-steps", "0", "--num-train-epochs", "0"), "--max-steps 0: must be at least 1"),
        (("--bets", "1"), "--bets: is no key of a run; did you mean"),
        (("--scale",), "--scale: needs a value"),
        (("word",), "word: is no option; options begin with --"),
        (("-b", "1"), "-b: is no option; options begin with --"),
        (("--objective", "/nowhere.py:mine"), "--objective /nowhere.py:mine: there is no file /nowhere.py"),
    ],
)
def test_one_line_and_nothing_written(words, said, study, tmp_path):
    assert study(*words).error.startswith(said)
    assert not (tmp_path / "out").exists()


def test_a_directory_of_another_world(study, tmp_path):
    assert study("--methods", "dpo").code == 0
    before = sorted((tmp_path / "out").rglob("*"))
    assert "holds a sweep with another instance: choose a new directory" in study("--methods", "dpo", "--world-seed", "1").error
    assert sorted((tmp_path / "out").rglob("*")) == before

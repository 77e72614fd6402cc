"""The four commands through the real program."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from llm.data.load import load_preferences
from llm.data.splits import TABLE_5
from llm.data.write import provenance_of
from tests.llm.data.sources import FIXTURES, write_jsonl
from tests.llm.data.synthetic import preferences, save_tokenizer
from theory import __version__

COMPARISONS = FIXTURES / "summarize_from_feedback"


@pytest.fixture
def data(tmp_path):
    return write_jsonl(tmp_path / "prefs.jsonl", preferences(400, 5, unknown=0.1).to_list())


def test_show_describes_the_data(llm):
    shown = llm("data", "show", "--data", COMPARISONS, "--rows", 2, "--json").json
    assert (shown["adapter"], shown["source_split"], shown["kind"], shown["form"]) == (
        "summarize-from-feedback",
        "train",
        "preferences",
        "text",
    )
    assert (shown["read"], shown["rows"], shown["repeated"], shown["dropped"]) == (12, 10, 1, {"equal": 1, "empty": 1})
    assert shown["confidence"] == {"rows": 9, "mean": pytest.approx(50 / 9)}
    assert shown["mean_tokens"]["chosen"] == pytest.approx((5 + 4 + 4 + 5 + 3 + 11 + 3 + 3 + 5 + 10) / 10)
    # 5 > 4, 3 > 1 and so on: longer preferred in rows 1, 4, 5, 6 and 10, shorter in 2, 3, 7 and 8; row 9 is 5 against 4.
    assert shown["longer_preferred"] == pytest.approx(6 / 10)
    assert [row["chosen"] for row in shown["first"]] == [" My kettle is haunted, help.", " Kettle hums at night."]
    people = llm("data", "show", "--data", COMPARISONS)
    assert people.code == 0
    assert "My kettle is haunted" in people.out
    assert "Summaries of posts keep the space" in people.out


@pytest.mark.parametrize("name", ["carper_tldr", "cnn_dailymail", "ultrafeedback_h4"])
def test_show_takes_any_source(llm, name):
    assert llm("data", "show", "--data", FIXTURES / name).code == 0
    assert llm("data", "show", "--data", FIXTURES / name, "--json").json["first"]


def test_convert_gives_a_file_that_needs_no_adapter(llm, tmp_path):
    out = tmp_path / "prefs.parquet"
    record = llm("data", "convert", "--data", COMPARISONS, "--split", "valid2", "--out", out, "--json").json
    assert (record["rows"], record["out"], record["source_split"]) == (2, str(out), "valid2")
    assert load_preferences(out).to_list() == load_preferences(COMPARISONS, split="valid2").to_list()
    assert provenance_of(out)["adapter"] == "summarize-from-feedback"
    assert "is not overwritten" in llm("data", "convert", "--data", COMPARISONS, "--out", out).error
    prompts = llm("data", "convert", "--data", COMPARISONS, "--as", "prompts", "--out", tmp_path / "prompts.parquet")
    assert "7 prompts written to" in prompts.out


def test_splits_are_written_with_an_account(llm, data, tmp_path):
    out = tmp_path / "splits"
    record = llm("data", "splits", "--data", data, "--out", out, "--seed", 3, "--cap", 30, "--json").json
    stored = json.loads((out / "report.json").read_text())
    assert stored.pop("version") == __version__
    assert stored == {key: value for key, value in record.items() if key != "out"}
    known = {row["id"]: row for row in preferences(400, 5, unknown=0.1) if row["confidence"] is not None}
    assert record["without_confidence"] == 400 - len(known)
    for name, part in record["splits"].items():
        assert part["drdo_table_5"] == vars(TABLE_5[name])
        rows = {side: load_preferences(out / name, split=side) for side in ("train", "validation")}
        assert {side: len(found) for side, found in rows.items()} == {side: part[side] for side in rows}
        found = set(rows["train"]["id"]) | set(rows["validation"]["id"])
        assert found <= known.keys()
        sign = {"hc_he": 1, "lc_le": -1, "all": 0}[name]
        assert all(sign * (known[i]["confidence"] - record["percentiles"]["confidence"]) > 0 for i in found) or not sign
    assert len(load_preferences(out / "hc_he")) == 30
    assert provenance_of(out / "hc_he" / "train.parquet")["seed"] == 3
    assert "is not overwritten" in llm("data", "splits", "--data", data, "--out", out).error


def test_splits_print_the_papers_numbers_beside_ours(llm, tmp_path):
    rows = [row | {"choice": i % 2} for i, row in enumerate(preferences(100))]
    ran = llm("data", "splits", "--data", write_jsonl(tmp_path / "prefs.jsonl", rows), "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    for printed in ("D_hc,he", "5.01", "7.31", "2.67", "0.12", "0.15", "0.09", "44,709", "86,086", "10,136", "1,112"):
        assert printed in ran.out
    assert "Mean confidence by the summary preferred: " in ran.out


def test_splits_by_tokens_and_within_a_limit(llm, data, tmp_path):
    tokenizer = save_tokenizer(tmp_path / "tokenizer")
    options = ("--tokenizer", tokenizer, "--max-tokens", 14, "--with-prompt", "--by-prompt")
    record = llm("data", "splits", "--data", data, "--out", tmp_path / "out", *options, "--json").json
    assert record["tokens"] == str(tokenizer)
    assert 0 < record["too_long"] < 400
    assert record["rows"] == 400 - record["too_long"]


def test_length_bias(llm, data, tmp_path):
    out = tmp_path / "biased.parquet"
    options = ("--rho", 0.3, "--size", 50, "--seed", 2)
    record = llm("data", "length-bias", "--data", data, "--out", out, *options, "--json").json
    rows = load_preferences(out)
    lengths = [(len(row["chosen"].split()), len(row["rejected"].split())) for row in rows]
    assert (len(rows), sum(w > l for w, l in lengths), record["longer_preferred"]) == (50, 15, 15)  # noqa: E741
    assert (record["share"], record["paper_share"]) == (0.3, 0.61)
    assert provenance_of(out)["rho"] == 0.3
    again = llm("data", "length-bias", "--data", data, "--out", tmp_path / "again.parquet", *options)
    assert "50 rows written" in again.out
    assert load_preferences(tmp_path / "again.parquet").to_list() == rows.to_list()


def test_length_bias_of_relabelled_data(llm, tmp_path):
    rows = preferences(200).to_list()
    scored = [row | {"reward_chosen": 0.0, "reward_rejected": float(i % 2)} for i, row in enumerate(rows)]
    data, out = write_jsonl(tmp_path / "scored.jsonl", scored), tmp_path / "out.parquet"
    record = llm("data", "length-bias", "--data", data, "--out", out, "--size", 20, "--relabel", "--json").json
    assert record["relabelled"] == 100
    originals = {row["id"]: row for row in rows}
    for row in load_preferences(out):
        swapped = row["chosen"] == originals[row["id"]]["rejected"]
        assert (row["oracle_reward_chosen"], row["oracle_reward_rejected"]) == ((1.0, 0.0) if swapped else (0.0, 0.0))


def test_an_oracles_scores_become_labels_by_id(llm, tmp_path):
    """A file of ``llm score``, in another order than the data, is joined and decides which response is preferred."""
    rows = preferences(60).to_list()
    data = write_jsonl(tmp_path / "prefs.jsonl", rows)
    swap = {row["id"]: i % 3 == 0 for i, row in enumerate(rows)}
    scored = [{"id": i, "reward_chosen": 0.0, "reward_rejected": 1.0 if swap[i] else -1.0} for i in reversed(swap)]
    scores, out = tmp_path / "oracle.parquet", tmp_path / "labelled.parquet"
    parquet.write_table(pa.Table.from_pylist(scored), scores)
    record = llm("data", "convert", "--data", data, "--scores", scores, "--relabel", "--out", out, "--json").json
    assert (record["relabelled"], record["scores"], record["without_scores"]) == (20, [str(scores)], 0)
    for before, after in zip(rows, load_preferences(out), strict=True):
        sides = ("rejected", "chosen") if swap[before["id"]] else ("chosen", "rejected")
        assert (after["id"], after["chosen"], after["rejected"]) == (before["id"], *(before[side] for side in sides))
    joined = tmp_path / "joined.parquet"
    llm("data", "convert", "--data", data, "--scores", scores, "--out", joined)
    assert load_preferences(joined)["reward_rejected"][:] == [1.0 if found else -1.0 for found in swap.values()]


BAD = {
    "no such file": (("show", "--data", "absent.jsonl"), "--data absent.jsonl: does not exist"),
    "no network": (("show", "--data", "openai/summarize_from_feedback"), "cannot be reached and is not in the cache"),
    "unknown adapter": (("show", "--data", COMPARISONS, "--adapter", "tdlr"), "--adapter tdlr: "),
    "unknown split": (("show", "--data", COMPARISONS, "--split", "vaild2"), "--split vaild2: "),
    "unknown kind": (("convert", "--data", COMPARISONS, "--as", "pairs", "--out", "OUT"), "--as pairs: "),
    "flaws refused": (("show", "--data", COMPARISONS, "--strict"), "row 5, field rejected: equals chosen"),
    "negative rows": (("show", "--data", COMPARISONS, "--rows", "-1"), "--rows -1"),
    "negative seed": (("splits", "--data", COMPARISONS, "--out", "OUT", "--seed", "-1"), "--seed -1"),
    "no confidence": (("splits", "--data", FIXTURES / "ultrafeedback_h4", "--out", "OUT"), "has no column confidence"),
    "too many": (("length-bias", "--data", COMPARISONS, "--out", "OUT"), "--size 30000: needs 9,000 rows"),
    "scores of prompts": (
        ("convert", "--data", COMPARISONS, "--as", "prompts", "--out", "OUT", "--scores", "s.parquet"),
        "--scores: is for preferences",
    ),
    "no scores": (
        ("show", "--data", COMPARISONS, "--scores", "absent.parquet"),
        "--scores absent.parquet: there is no such file",
    ),
    "no rewards": (("length-bias", "--data", COMPARISONS, "--out", "OUT", "--relabel"), "--relabel: needs reward_chosen"),
    "prompts have no pairs": (
        ("show", "--data", FIXTURES / "cnn_dailymail", "--max-tokens", "9"),
        "--max-tokens: is for preferences",
    ),
    "no data": (("show",), "Missing option '--data'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(llm, tmp_path, name):
    arguments, remedy = BAD[name]
    out = tmp_path / "out"
    ran = llm("data", *(out if argument == "OUT" else argument for argument in arguments))
    assert remedy in ran.error
    assert list(tmp_path.iterdir()) == []


def test_the_command_loads_nothing_heavy():
    """`llm --help` imports every command's module."""
    code = "import sys, llm.cli.data; print({'torch', 'transformers', 'datasets', 'trl', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"

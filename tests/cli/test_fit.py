from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from theory.cli import fit as command

KEYS = {
    *("method", "n", "contexts", "responses", "beta", "beta_rule", "hyperparameters", "gamma", "ridge", "reference"),
    *("log_likelihood", "log_likelihood_per_comparison", "coin_flip_log_likelihood", "bradley_terry_log_likelihood"),
    *("finite", "vanishing", "disconnected", "unanimous_share", "gradient_norm", "iterations", "certificate"),
    *("intervals", "policy", "seconds", "version"),
}
HEAD = "context,chosen,rejected,count\n"
ROWS = "q,a,b,6\nq,b,a,3\nq,b,c,4\nq,c,a,2\nr,x,y,7\nr,y,x,5\n"
SEPARABLE = ROWS + "t,good,bad,2\n"


@pytest.fixture
def data(tmp_path):
    def write(rows=ROWS, name="d.csv"):
        path = tmp_path / name
        path.write_text(HEAD + rows)
        return path

    return write


def test_json_is_one_object_with_every_promised_key(theory, data):
    record = theory("fit", "--data", data(), "--method", "pmle", "--beta", "0", "--json").json
    assert record.keys() >= KEYS
    assert (record["method"], record["n"], record["contexts"], record["responses"]) == ("pmle", 27, 2, 5)
    assert (record["beta"], record["beta_rule"], record["gamma"], record["ridge"]) == (0, "fixed", 1, 0.01)
    assert record["gradient_norm"] <= 1e-8
    assert record["finite"] is True
    assert record["vanishing"] == []
    assert record["log_likelihood_per_comparison"] == pytest.approx(record["log_likelihood"] / 27)
    assert record["coin_flip_log_likelihood"] < record["log_likelihood"] < record["bradley_terry_log_likelihood"] < 0
    assert record["intervals"]["confidence"] == 0.95
    assert record["intervals"]["method"] == "sandwich"
    assert record["intervals"]["reason"] is None
    assert "--ridge 0.01" in record["intervals"]["note"]
    assert "uniform" in record["reference"]
    rows = {(row["context"], row["response"]): row for row in record["policy"]}
    assert set(rows) == {("q", "a"), ("q", "b"), ("q", "c"), ("r", "x"), ("r", "y")}
    for row in rows.values():
        assert row["low"] < row["probability"] < row["high"]
        assert row["logp"] == pytest.approx(np.log(row["probability"]))
    # The textbook: odds 7/5, pulled by the ridge in the fourth digit.
    odds = rows["r", "x"]["probability"] / rows["r", "y"]["probability"]
    assert odds == pytest.approx(7 / 5, rel=2e-3)


def test_table_for_people_says_what_was_found(theory, data):
    ran = theory("fit", "--data", data(SEPARABLE), "--method", "dpo", "--beta", "0.5", "--top", "1")
    assert ran.code == 0
    for words in (
        "dpo fitted to comparisons",
        "29 comparisons, 3 contexts, 7 responses",
        "uniform over the responses compared",
        "log-likelihood",
        "of a fair coin",
        "1 of 7 probabilities go to 0; the estimate is bounded by --ridge 0.01",
        "gradient",
        "≤ 1e-08",
        "95 % interval",
        "none in 1 of 3 contexts",
        "… 2 more (--top)",
        "good",
    ):
        assert words in " ".join(ran.out.split()), words
    assert "bad" not in ran.out.split("95 % interval")[-1]


def test_more_contexts_than_are_shown(theory, data):
    rows = "".join(f"x{i},a,b,2\nx{i},b,a,1\n" for i in range(30))
    assert (
        "25 more contexts: see --json or --policy-out" in theory("fit", "--data", data(rows), "--method", "dpo", "--beta", 1).out
    )


def test_policy_file(theory, data, tmp_path):
    out = tmp_path / "p.npz"
    record = theory(
        "fit", "--data", data(SEPARABLE), "--method", "dpo", "--beta", "0.5", "--policy-out", out, "--confidence", 0.9, "--json"
    ).json
    with np.load(out, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    assert arrays["context"].tolist() == ["q", "r", "t"]
    assert arrays["offsets"].tolist() == [0, 3, 5, 7]
    assert arrays["response"].tolist() == [row["response"] for row in record["policy"]]
    for name in ("logp", "probability", "low", "high"):
        assert [None if np.isnan(v) else v for v in arrays[name]] == [row[name] for row in record["policy"]]
    assert np.isnan(arrays["low"][5:]).all()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".csv"] == ["p.npz"]


def test_without_a_ridge_a_policy_that_does_not_exist_is_not_written(theory, data, tmp_path):
    out = tmp_path / "p.npz"
    arguments = ("fit", "--data", data(SEPARABLE), "--method", "dpo", "--beta", "0.5", "--ridge", 0)
    assert "--ridge above 0" in theory(*arguments, "--policy-out", out).error
    assert not out.exists()
    record = theory(*arguments, "--json").json
    assert record["finite"] is False
    assert record["vanishing"] == [["t", "bad"]]
    assert record["log_likelihood"] is None
    assert [row["probability"] for row in record["policy"]][5:] == [None, None]
    assert record["intervals"]["withheld_contexts"] == {record["intervals"]["reason"]: 1}
    ran = theory(*arguments)
    assert "without a ridge there is no policy to report" in " ".join(ran.out.split())
    assert theory("fit", "--data", data(ROWS), "--method", "dpo", "--ridge", 0, "--policy-out", out).code == 0


BAD = {
    "--beta best": (("--beta", "best"), "--beta best: needs a known target; use validation or a number"),
    "--beta validation": (("--beta", "validation"), "needs 50 comparisons in contexts with two or more"),
    "--beta word": (("--beta", "lots"), "--beta lots"),
    "--gamma": (("--gamma", "0"), "--gamma 0.0: must be positive"),
    "--gamma nan": (("--gamma", "nan"), "--gamma nan: must be positive"),
    "--ridge": (("--ridge", "-1"), "--ridge -1.0: must be zero or positive"),
    "--confidence": (("--confidence", "95"), "--confidence 95.0: must lie between 0 and 1"),
    "--top": (("--top", "0"), "--top 0: must be at least 1"),
    "--seed": (("--seed", "-1"), "--seed -1"),
    "--reward-head": (("--reward-head", "two"), "--reward-head two"),
    "option": (("--alpha", "1"), "--alpha: is no option of this command"),
    "value": (("--gamma-f",), "--gamma-f"),
    "folder": (("--policy-out", "/nowhere/p.npz"), "--policy-out /nowhere/p.npz"),
    "reference": (("--reference", "/nowhere/r.csv"), "--reference /nowhere/r.csv"),
    "objective": (("--objective", "file.py:name"), "cannot be combined with --method"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_one_line(theory, data, tmp_path, case):
    arguments, words = BAD[case]
    before = sorted(tmp_path.iterdir())
    path = data()
    assert words in theory("fit", "--data", path, "--method", "dpo", *arguments, "--json").error
    assert sorted(tmp_path.iterdir()) == sorted([*before, path])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("d.csv", "context,chosen\nx,a\n", "has no column rejected"),
        ("d.csv", "", "is empty"),
        ("d.csv", HEAD + "x,a,a,1\n", "row 1: chosen and rejected 'a'"),
        ("d.csv", HEAD + "x,a,b,1\nx,a,b,-2\n", "row 2: count '-2': must be a whole number"),
        ("d.jsonl", "{\n", "row 1: '{' is not valid JSON"),
        ("d.txt", "x", "unknown extension"),
    ],
)
def test_bad_data_is_one_line_and_leaves_no_file(theory, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    assert words in theory("fit", "--data", tmp_path / name, "--method", "dpo", "--policy-out", tmp_path / "p.npz").error
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_data_is_required(theory):
    assert "--data" in theory("fit", "--method", "dpo").error


def test_reference_that_misses_a_response_names_it(theory, data, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("context,response,probability\nq,a,0.5\nq,b,0.5\nr,x,0.5\nr,y,0.5\n")
    error = theory("fit", "--data", data(), "--method", "dpo", "--beta", 1, "--reference", path).error
    assert "context 'q', response 'c': zero probability on a response that appears in the data" in error


def test_reference_is_used_and_said_to_be_renormalised(theory, data, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("context,response,probability\nq,a,0.4\nq,b,0.2\nq,c,0.2\nq,other,0.2\nr,x,0.5\nr,y,0.5\n")
    arguments = ("fit", "--data", data(), "--method", "dpo", "--beta", 1)
    record = theory(*arguments, "--reference", path, "--json").json
    assert record["reference"] == str(path)
    assert record["reference_covered"] == pytest.approx({"least": 0.8, "mean": 0.9})
    plain = theory(*arguments, "--json").json
    tilt = [row["probability"] / base["probability"] for row, base in zip(record["policy"], plain["policy"], strict=True)]
    assert tilt[0] / tilt[1] == pytest.approx(2)
    assert tilt[1] == pytest.approx(tilt[2])
    assert "renormalised over the responses compared" in " ".join(theory(*arguments, "--reference", path).out.split())


def test_default_hyperparameter_where_nothing_can_be_held_out(theory, data):
    record = theory("fit", "--data", data(), "--method", "dpo", "--json").json
    assert (record["beta"], record["beta_rule"]) == (0.05, "default")
    assert "too few repeated comparisons" in " ".join(theory("fit", "--data", data(), "--method", "dpo").out.split())


def test_validation_is_the_default_where_it_can_be(theory, data):
    rng = np.random.default_rng(1)
    wins = rng.binomial(20, 0.5, 50).clip(1, 19)
    rows = "".join(f"x{i},a,b,{w}\nx{i},b,a,{20 - w}\n" for i, w in enumerate(wins))
    arguments = ("fit", "--data", data(rows), "--method", "pmle", "--json")
    record = theory(*arguments).json
    assert record["beta_rule"] == "validation"
    assert record["beta"] > 0.01
    assert theory(*arguments, "--beta", "validation").json["beta"] == record["beta"]
    assert theory(*arguments, "--beta", "validation", "--seed", 1).json["beta"] != record["beta"]


def test_own_objective_and_its_hyperparameters(theory, data, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch.nn.functional import softplus\n\n\n"
        "def hinge_like(pair, *, scale=2.0):\n"
        "    return softplus(1 - scale * pair.logp_margin)\n"
    )
    arguments = ("fit", "--data", data(), "--objective", f"{path}:hinge_like", "--json")
    record = theory(*arguments).json
    assert (record["method"], record["hyperparameters"], record["beta"]) == ("hinge-like", {"scale": 2.0}, None)
    assert record["intervals"]["method"] == "sandwich"
    assert theory(*arguments, "--scale", 3).json["hyperparameters"] == {"scale": 3.0}
    assert "--scale" in theory(*arguments, "--alpha", 3).error


def test_underscore_hyperparameters_and_fixed_tuned_ones(theory, data):
    record = theory("fit", "--data", data(), "--method", "drdo", "--gamma-f", "1.5", "--reward-head", "tied", "--json").json
    assert record["hyperparameters"]["gamma_f"] == 1.5
    assert record["reward_head"] == "tied"
    record = theory("fit", "--data", data(), "--method", "ipo", "--tau", "0.7", "--json").json
    assert (record["tuned"], record["beta"], record["beta_rule"]) == ("tau", 0.7, "fixed")


@pytest.mark.parametrize("method", ["pmle", "dpo"])
def test_sixty_thousand_prompts_of_one_comparison_each(theory, tmp_path, method):
    path = tmp_path / "d.csv"
    path.write_text(
        "context,chosen,rejected\n" + "".join(f"prompt {i},answer {2 * i},answer {2 * i + 1}\n" for i in range(60_000))
    )
    out = tmp_path / "p.npz"
    start = time.process_time()
    ran = theory("fit", "--data", path, "--method", method, "--beta", "0.1", "--policy-out", out)
    assert ran.code == 0
    assert time.process_time() - start < 10  # about 1 s on an idle core
    assert "60,000 comparisons, 60,000 contexts, 120,000 responses" in " ".join(ran.out.split())
    with np.load(out) as stored:
        p = stored["probability"].reshape(-1, 2)
        assert np.ptp(p, axis=0).max() == 0
        assert (stored["response"] == np.array([f"answer {i}" for i in range(120_000)])).all()
    if method == "dpo":  # ridge·β m = σ(−β m) for the margin m of the log-ratios, by hand
        assert 0.01 * 0.1 * m(p) / 2 == pytest.approx(1 / (1 + np.exp(0.1 * m(p))), rel=1e-6)


def m(p):
    return np.log(p[0, 0]) - np.log(p[0, 1])


def test_progress_is_quiet_off_a_terminal_and_ends_on_one(monkeypatch, capsys):
    with command._patience() as say:
        say("reading")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with command._patience(delay=0.0) as say:
        say("fitting")
        time.sleep(0.2)
        say("checking")
    with command._patience(delay=60.0) as say:
        say("never shown")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "never shown" not in captured.err


def test_as_a_user_runs_it(data, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command_line = [sys.executable, "-m", "theory", "fit", "--data", str(data()), "--method", "pmle", "--beta", "0.1", "--json"]
    done = subprocess.run(command_line, capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == ""
    assert json.loads(done.stdout).keys() >= KEYS
    command_line[5] = str(tmp_path / "absent.csv")
    done = subprocess.run(command_line, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --data {tmp_path / 'absent.csv'}: cannot be read: No such file or directory\n"

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from theory import __version__


def test_help_lists_every_command_without_torch():
    code = (
        "import sys; from theory.cli.main import run; run(['--help']); sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    for command in ("simulate", "sweep", "fit", "degeneracy", "methods", "plot", "instance"):
        assert command in ran.stdout


def test_the_installed_script_refuses_with_exit_code_2_and_no_traceback():
    script = Path(sys.executable).parent / "theory"
    ran = subprocess.run([script, "simulate", "--n", "0"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: --n 0")
    assert "Traceback" not in ran.stderr


def test_version_and_no_arguments(theory):
    assert theory("--version").out.strip() == __version__
    bare = theory()
    assert bare.code == 2
    assert "Usage" in bare.out


def test_unknown_command_and_option(theory):
    assert "simulate" in theory("simulat").error
    assert "--foo" in theory("instance", "show", "--foo").error


def test_methods_lists_all_with_equations(theory):
    records = {r["name"]: r for r in theory("methods", "--json").json}
    assert len(records) == 18
    for record in records.values():
        assert record["equation"]
        assert record["source"]
        assert all(h["meaning"] for h in record["hyperparameters"])
    assert "reference" in records["dpo"]["needs"]
    assert records["drdo"]["needs"] == ["reward", "reward head"]
    assert "on-policy samples" in records["rkl"]["needs"]
    # Square brackets in equations are not markup.
    assert "[r̂(y)/γ]" in theory("methods", "rkl").out
    assert "did you mean drdo?" in theory("methods", "drod").error


def test_instance_new_and_show_agree(theory, tmp_path):
    file = tmp_path / "w.npz"
    made = theory("instance", "new", file, "--vocab", 4, "--contexts", 3, "--gamma", 0.5, "--features", 2, "--json").json
    shown = theory("instance", "show", file, "--json").json
    assert made == shown
    assert (shown["vocab"], shown["contexts"], shown["gamma"], shown["features"]) == (4, 3, 0.5, 2)
    stored = np.load(file)
    expected = np.mean(np.sum(stored["target"] * np.log(stored["target"] / stored["reference"]), 1))
    assert shown["reference_forward_kl"] == pytest.approx(expected)
    assert "cannot be written" in theory("instance", "new", tmp_path / "no" / "w.npz").error


def test_degeneracy_matches_the_exact_unanimity(theory):
    record = theory("degeneracy", "--labels", "1,2,5", "--preference", "0.5", "--data-sets", 2000, "--json").json
    # Wilson intervals at 95% would fail one run in twenty; the seed is fixed and four standard
    # errors fail one in 16,000.
    for row in record["rows"]:
        exact = 2.0 ** (1 - row["labels"])
        error = np.sqrt(exact * (1 - exact) / (2000 * record["pairs"]))
        assert abs(row["unanimous"]["value"] - exact) <= 4 * error + 1e-12
        assert row["exact"] == pytest.approx(exact)
        assert sum(row["mass"].values()) == pytest.approx(1)


def test_dpo_sends_all_mass_to_unanimous_winners_and_ipo_does_not(theory):
    shared = ("degeneracy", "--labels", 1, "--preference", 1, "--data-sets", 5, "--json")
    (dpo,) = theory(*shared).json["rows"]
    assert dpo["finite"] == 0
    assert dpo["mass"]["winner"] == pytest.approx(1, abs=1e-6)
    (ipo,) = theory(*shared, "--method", "ipo").json["rows"]
    assert ipo["finite"] == 1
    assert ipo["mass"]["loser"] > 1e-3


def test_fair_pairs_labelled_both_ways_have_a_finite_minimiser(theory):
    (row,) = theory("degeneracy", "--labels", 40, "--preference", 0.5, "--data-sets", 20, "--json").json["rows"]
    assert row["finite"] == 1
    assert row["vanishing"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--labels", "0"), "--labels 0"),
        (("--labels", "1.5"), "whole numbers"),
        (("--labels", "x"), "--labels x"),
        (("--preference", "1.2"), "--preference 1.2"),
        (("--pairs", "0"), "--pairs 0"),
        (("--unseen", "-1"), "--unseen -1"),
        (("--ridge", "0"), "--ridge 0"),
        (("--beta", "best"), "--beta best"),
        (("--method", "dop"), "did you mean dpo?"),
    ],
)
def test_degeneracy_refuses_in_one_line(theory, arguments, words):
    assert words in theory("degeneracy", *arguments).error


def test_degeneracy_does_not_call_infinite_what_structure_leaves_open(theory):
    """HyPO's KL(π‖π_ref) fights the slower drain of its loss on unanimous pairs: 0% finite would be a claim."""
    options = ["--beta", "0.1", "--labels", "2", "--preference", "0.5", "--data-sets", "40"]
    (row,) = theory("degeneracy", "--method", "hypo", *options, "--json").json["rows"]
    assert row["undecided"] > 0
    assert row["finite"] + row["undecided"] == pytest.approx(1)
    (dpo,) = theory("degeneracy", "--method", "dpo", *options, "--json").json["rows"]
    assert dpo["undecided"] == 0

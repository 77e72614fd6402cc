"""``theory instance new --language`` and what the other commands make of its file."""

import pytest

from theory.instances import load_language, random_language


def test_a_language_is_made_shown_and_simulated(theory, tmp_path):
    file = tmp_path / "w.npz"
    options = ("--language", "--tokens", 3, "--length", 2, "--prompts", 2, "--order", 2, "--eos", "--gamma", 2, "--seed", 7)
    made = theory("instance", "new", file, *options, "--json").json
    assert made == theory("instance", "show", file, "--json").json
    same = random_language(7, tokens=3, length=2, prompts=2, order=2, eos=True, gamma=2.0)
    assert made["fingerprint"] == same.fingerprint == load_language(file).fingerprint
    assert (made["vocab"], made["contexts"], made["prompts"], made["eos"]) == (12, 2, 2, True)
    simulated = theory("simulate", "--instance", file, "--method", "pmle", "--n", "inf", "--beta", "0", "--json").json
    assert (simulated["vocab"], simulated["contexts"], simulated["gamma"]) == (12, 2, 2.0)
    assert simulated["forward_kl"] == pytest.approx(0, abs=1e-9)


def test_the_defaults_are_the_documented_ones(theory, tmp_path):
    made = theory("instance", "new", tmp_path / "w.npz", "--language", "--json").json
    assert made["fingerprint"] == random_language(0).fingerprint


def test_a_language_too_large_for_a_table_is_kept_as_a_language(theory, tmp_path):
    file = tmp_path / "w.npz"
    made = theory("instance", "new", file, "--language", "--tokens", 20, "--length", 10, "--json").json
    assert made["enumerable"] is False
    assert "coverage_table" not in made
    assert "has no array target" in theory("simulate", "--instance", file).error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tokens", 5), "--tokens 5: needs --language"),
        (("--eos",), "--eos: needs --language"),
        (("--language", "--vocab", 5), "--vocab 5: has no meaning with --language"),
        (("--language", "--tokens", 1), "--tokens 1: must be a whole number, at least 2"),
        (("--language", "--order", 3), "--order 3"),
        (("--language", "--gamma", 0), "--gamma 0.0"),
        (("--language", "--seed", -1), "--seed -1"),
    ],
)
def test_refused_in_one_line_and_nothing_written(theory, tmp_path, arguments, words):
    assert words in theory("instance", "new", tmp_path / "w.npz", *arguments).error
    assert list(tmp_path.iterdir()) == []


def test_files_that_hold_no_language_are_shown_or_refused_as_before(theory, tmp_path):
    assert "No such file" in theory("instance", "show", tmp_path / "absent.npz").error
    (tmp_path / "text.npz").write_text("no")
    assert "not a readable .npz" in theory("instance", "show", tmp_path / "text.npz").error
    assert "language" not in theory("instance", "new", tmp_path / "w.npz", "--json").json

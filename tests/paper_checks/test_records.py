"""Records: what is written, and which differences from it are seen."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_checks import records
from paper_checks.claims import Claim, Finding, Verdict, claims
from paper_checks.records import Change, as_record, changes, load, path, plain, save


def finding(verdict: str = "holds", counterexample=None, **evidence) -> Finding:
    return Finding(Verdict(verdict), evidence, "" if verdict in ("holds", "fails") else "a reason", counterexample)


def made(id: str = "drdo-made-up") -> Claim:
    texts = dict.fromkeys(("statement", "says", "assumes", "predicts", "tested"), "text")
    return Claim(id=id, expects=Verdict.HOLDS, check=finding, **texts)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    return tmp_path


# --- Plain data. ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 / 3, 0.3333333333),
        (1e-20 / 3, 3.333333333e-21),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (np.float64(0.25), 0.25),
        (np.float64("nan"), "nan"),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1.0, math.inf]]), [[1.0, "inf"]]),
        (torch.tensor([0.5, -0.5]), [0.5, -0.5]),
        ((1, "two", None, True), [1, "two", None, True]),
        ({1: {"a": (0.1,)}}, {"1": {"a": [0.1]}}),
        (Verdict.FAILS, "fails"),
        ({}, {}),
    ],
)
def test_values_in_json_types(value, expected):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected) or isinstance(value, Verdict)


@pytest.mark.parametrize("value", [{1, 2}, 1j, b"bytes", object(), [lambda: 0], {"a": {"b": range(3)}}])
def test_what_is_not_data(value):
    with pytest.raises(TypeError, match="evidence holds a "):
        plain(value)


_scalars = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=5)
_names = st.text(max_size=3)
_data = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3), max_leaves=8
)


@given(_data)
def test_what_is_written_is_read_again(value):
    text = json.dumps(plain(value), allow_nan=False)
    assert json.loads(text) == plain(value)
    assert plain(plain(value)) == plain(value)


@given(st.dictionaries(_names, _data, max_size=3))
def test_nothing_has_changed_from_ones_own_record(evidence):
    found = Finding(Verdict.HOLDS, evidence)
    recorded = json.loads(json.dumps(as_record(found)))
    assert changes(recorded, found) == []


# --- Files. ---------------------------------------------------------------------------------------------------


def test_a_record_is_a_file_of_its_own(folder):
    claim = made()
    assert load(claim) is None
    save(claim, finding("fails", {"gap": math.inf}, margin=0.5, label="π_ref"))
    assert path(claim) == folder / "drdo-made-up.json"
    text = path(claim).read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "π_ref" in text
    assert load(claim) == {
        "verdict": "fails",
        "assumption": "",
        "evidence": {"margin": 0.5, "label": "π_ref"},
        "counterexample": {"gap": "inf"},
    }
    assert [file.name for file in folder.iterdir()] == ["drdo-made-up.json"]
    save(made("drdo-other"), finding())
    assert load(claim)["verdict"] == "fails"


def test_saving_again_replaces(folder):
    save(made(), finding(margin=0.5))
    save(made(), finding(margin=0.25))
    assert load(made())["evidence"] == {"margin": 0.25}


def test_the_committed_records_belong_to_claims_and_are_what_would_be_written():
    known = claims()
    for file in records.FOLDER.iterdir():
        assert file.suffix == ".json"
        assert file.stem in known
        text = file.read_text(encoding="utf-8")
        kept = json.loads(text)
        assert set(kept) == {"verdict", "assumption", "evidence", "counterexample"}
        assert json.dumps(plain(kept), indent=1, ensure_ascii=False) + "\n" == text


# --- Differences. ---------------------------------------------------------------------------------------------


def seen(old: dict, new: dict) -> list[str]:
    recorded = json.loads(json.dumps(as_record(finding(**old))))
    return [str(change) for change in changes(recorded, finding(**new))]


@given(st.floats(1e-3, 1e9), st.booleans(), st.floats(-0.9e-4, 0.9e-4))
def test_rounding_is_not_a_change(size, negative, relative):
    value = -size if negative else size
    assert seen({"gap": value}, {"gap": value * (1 + relative)}) == []


@given(st.floats(1e-3, 1e9), st.floats(1.2e-4, 1) | st.floats(-1, -1.2e-4))
def test_more_than_rounding_is(size, relative):
    (change,) = seen({"gap": size}, {"gap": size * (1 + relative)})
    assert change.startswith("evidence.gap: ")


NEAR_ZERO = [(0.0, 0.9e-9, True), (0.0, 2e-9, False), (1e-12, -1e-12, True), (1, 1.00001, True)]


@pytest.mark.parametrize(("old", "new", "same"), NEAR_ZERO)
def test_close_to_zero_the_tolerance_is_absolute(old, new, same):
    assert (seen({"gap": old}, {"gap": new}) == []) is same


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"n": 10}, {"n": 11}, "evidence.n: 10 → 11"),
        ({"ok": True}, {"ok": False}, "evidence.ok: True → False"),
        ({"word": "local"}, {"word": "convex"}, "evidence.word: local → convex"),
        ({"gap": math.inf}, {"gap": -math.inf}, "evidence.gap: inf → -inf"),
        ({"gap": math.nan}, {"gap": 0.0}, "evidence.gap: nan → 0.0"),
        ({"gap": 1.0}, {"gap": math.inf}, "evidence.gap: 1.0 → inf"),
        ({"gap": 1.0}, {"gap": None}, "evidence.gap: 1.0 → None"),
        ({"gap": 1.0}, {}, "evidence.gap: 1.0 → None"),
        ({}, {"gap": 1.0}, "evidence.gap: None → 1.0"),
        ({"gaps": [1.0, 2.0]}, {"gaps": [1.0, 3.0]}, "evidence.gaps[1]: 2.0 → 3.0"),
        ({"gaps": [1.0, 2.0]}, {"gaps": [1.0]}, "evidence.gaps: [1.0, 2.0] → [1.0]"),
        ({"gaps": []}, {"gaps": [1.0]}, "evidence.gaps: [] → [1.0]"),
        ({"gaps": [1.0]}, {"gaps": 1.0}, "evidence.gaps: [1.0] → 1.0"),
        ({"at": {"β": {"kl": 1.0}}}, {"at": {"β": {"kl": 2.0}}}, "evidence.at.β.kl: 1.0 → 2.0"),
        ({"rows": [{"kl": 1.0}]}, {"rows": [{"kl": 2.0}]}, "evidence.rows[0].kl: 1.0 → 2.0"),
    ],
)
def test_changes_by_hand(old, new, said):
    assert seen(old, new) == [said]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, None, True, "word", [], {}, [math.nan, 1.0]])
def test_what_is_the_same_is_no_change(value):
    assert seen({"it": value}, {"it": value}) == []


def test_every_change_is_listed():
    assert len(seen({"a": 1.0, "b": [1.0, 2.0], "c": 3}, {"a": 2.0, "b": [2.0, 3.0], "c": 3})) == 3


def test_verdict_assumption_and_counterexample_are_compared_too():
    recorded = as_record(finding("holds-if", {"gap": 1.0}))
    now = replace(finding("fails", {"gap": 2.0}))
    assert [change.where for change in changes(recorded, now)] == ["verdict", "assumption", "counterexample.gap"]


def test_a_claim_without_a_record_is_a_change():
    assert changes(None, finding()) == [Change("record", "none", "new")]

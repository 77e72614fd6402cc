"""Running checks: each is held against its record."""

import pytest

from paper_checks import records
from paper_checks.claims import Claim, Finding, Verdict, select
from paper_checks.run import check, check_all

KEYS = {
    *("id", "paper", "statement", "claim", "assumes", "predicts", "tested", "verdict", "recorded", "expected"),
    *("assumption", "evidence", "counterexample", "changed", "reproduce", "seconds"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Records of the tests' own."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    return tmp_path


def made(finding: Finding, id: str = "drdo-made-up", slow: bool = False) -> Claim:
    texts = {name: f"{name} of {id}" for name in ("statement", "says", "assumes", "predicts", "tested")}
    return Claim(id=id, expects=Verdict.HOLDS, check=lambda: finding, slow=slow, **texts)


HOLDS = Finding(Verdict.HOLDS, {"gap": 1e-12, "n": 100})
FAILS = Finding(Verdict.FAILS, {"gap": 0.5, "n": 100}, counterexample={"margin": 2.0})


def test_without_a_record_everything_is_new():
    result = check(made(HOLDS))
    assert result.recorded is None
    assert result.differs
    assert [str(change) for change in result.changes] == ["record: none → new"]
    assert result.record()["recorded"] is None


def test_the_recorded_verdict_and_numbers():
    claim = made(HOLDS)
    records.save(claim, HOLDS)
    result = check(claim)
    assert not result.differs
    assert result.changes == []
    assert 0 <= result.seconds < 1


def test_another_number_is_a_change_but_no_difference():
    claim = made(Finding(Verdict.HOLDS, {"gap": 1e-12, "n": 101}))
    records.save(claim, HOLDS)
    result = check(claim)
    assert not result.differs
    assert [str(change) for change in result.changes] == ["evidence.n: 100 → 101"]


def test_another_verdict_is_a_difference():
    claim = made(FAILS)
    records.save(claim, HOLDS)
    result = check(claim)
    assert result.differs
    assert "verdict: holds → fails" in [str(change) for change in result.changes]


def test_one_object_for_programs():
    claim = made(FAILS)
    records.save(claim, HOLDS)
    record = check(claim).record()
    assert set(record) == KEYS
    known = {
        "id": "drdo-made-up",
        "paper": "drdo",
        "statement": "statement of drdo-made-up",
        "claim": "says of drdo-made-up",
        "verdict": "fails",
        "recorded": "holds",
        "expected": "holds",
        "evidence": {"gap": 0.5, "n": 100},
        "counterexample": {"margin": 2.0},
        "reproduce": "paper-checks run --only drdo-made-up",
    }
    assert {key: record[key] for key in known} == known


def test_an_error_of_a_check_is_not_a_verdict():
    def broken() -> Finding:
        raise ZeroDivisionError("no numbers")

    claim = made(HOLDS)
    with pytest.raises(ZeroDivisionError, match="no numbers"):
        check(Claim(**{**vars(claim), "check": broken}))


def test_several_in_the_order_given():
    chosen = [made(HOLDS, "drdo-b"), made(FAILS, "unified-a", slow=True), made(HOLDS, "drdo-a")]
    found = list(check_all(chosen, jobs=1))
    assert [result.claim.id for result in found] == ["drdo-b", "unified-a", "drdo-a"]
    assert [result.finding.verdict for result in found] == ["holds", "fails", "holds"]
    assert list(check_all([], jobs=4)) == []


@pytest.mark.slow
def test_in_processes_of_their_own(monkeypatch):
    """Workers look claims up by id and give what this process gives."""
    monkeypatch.undo()
    chosen = select(only="drdo-prop-1,unified-lemma-8")
    together = {result.claim.id: result.finding for result in check_all(chosen, jobs=2)}
    assert together == {claim.id: claim.check() for claim in chosen}

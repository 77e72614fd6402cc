"""The gate: every claim of the papers, computed again, has the verdict and the numbers of its record."""

import pytest

from paper_checks import records
from paper_checks.claims import Verdict, claims
from paper_checks.run import check

CLAIMS = list(claims().values())


@pytest.mark.parametrize("claim", [pytest.param(c, id=c.id, marks=pytest.mark.slow if c.slow else ()) for c in CLAIMS])
def test_the_verdict_and_the_numbers_are_those_recorded(claim):
    result = check(claim)
    assert result.recorded is not None, f"no record: paper-checks run --only {claim.id} --record"
    assert result.finding.verdict == result.recorded["verdict"]
    assert [str(change) for change in result.changes] == []
    if result.finding.verdict in (Verdict.FAILS, Verdict.HOLDS_IF):
        assert result.finding.counterexample


def test_every_claim_has_a_record_and_every_record_a_claim():
    assert {file.name for file in records.FOLDER.iterdir()} == {f"{c.id}.json" for c in CLAIMS}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_what_is_broken_on_record_has_a_counterexample_and_what_is_conditional_a_condition(claim):
    recorded = records.load(claim)
    verdict = Verdict(recorded["verdict"])
    assert bool(recorded["counterexample"]) or verdict in (Verdict.HOLDS, Verdict.NOT_CHECKABLE)
    assert bool(recorded["assumption"]) or verdict in (Verdict.HOLDS, Verdict.FAILS)

"""Verdicts follow from what was computed."""

from __future__ import annotations

import pytest

from paper_checks.claims import Verdict
from paper_checks.drdo.outcome import conditional, error, judged


@pytest.mark.parametrize(
    ("holds", "breaks", "verdict"),
    [
        (True, True, Verdict.HOLDS_IF),
        (True, False, Verdict.HOLDS),
        (False, True, Verdict.FAILS),
        (False, False, Verdict.FAILS),
    ],
)
def test_conditional(holds: bool, breaks: bool, verdict: Verdict) -> None:
    found = conditional(holds, breaks, {"n": 1}, assumption="a", counterexample={"c": 2})
    assert found.verdict is verdict
    assert (found.assumption == "a") == (verdict is Verdict.HOLDS_IF)
    assert (found.counterexample == {"c": 2}) == (verdict is not Verdict.HOLDS)


def test_a_failure_without_an_example_shows_its_evidence() -> None:
    assert judged(False, {"n": 1}).counterexample == {"n": 1}
    assert judged(True, {"n": 1}).verdict is Verdict.HOLDS


def test_a_large_error_stays_a_number() -> None:
    assert error(1e-12) == "< 1e-08"
    assert error(1e-3) == 1e-3

"""From what a check computed to its verdict."""

from __future__ import annotations

from typing import Any

from paper_checks.claims import Finding, Verdict

Numbers = dict[str, Any]


def judged(holds: bool, evidence: Numbers, counterexample: Numbers | None = None) -> Finding:
    """Holds, or fails by the counterexample (the evidence itself, if none is given)."""
    return Finding(Verdict.HOLDS, evidence) if holds else Finding(Verdict.FAILS, evidence, "", counterexample or evidence)


def conditional(holds: bool, breaks: bool, evidence: Numbers, *, assumption: str, counterexample: Numbers) -> Finding:
    """The verdict on a claim that was tried with and without an added assumption.

    Args:
        holds: it was seen to hold under the assumption.
        breaks: it was seen to fail without.
        assumption, counterexample: given in the finding where they matter.
    """
    if holds and breaks:
        return Finding(Verdict.HOLDS_IF, evidence, assumption, counterexample)
    return judged(holds, evidence, counterexample)


def error(size: float, bound: float = 1e-8) -> str | float:
    """A rounding error as a record can keep it: "< 1e-08", or the number itself if it is larger."""
    return f"< {bound:.0e}" if size < bound else size


def not_checkable(reason: str) -> Finding:
    """Nothing was computed, and why."""
    return Finding(Verdict.NOT_CHECKABLE, {}, reason)

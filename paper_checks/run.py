"""Running checks on all cores and holding each against its record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paper_checks import records
from paper_checks.claims import Claim, Finding, claims


@dataclass(frozen=True)
class Result:
    """A check that was run.

    Attributes:
        recorded: the committed record, or None.
        changes: what differs from it beyond rounding.
        seconds: wall time.
    """

    claim: Claim
    finding: Finding
    recorded: dict[str, Any] | None
    changes: list[records.Change]
    seconds: float

    @property
    def differs(self) -> bool:
        """Whether the verdict is not the recorded one."""
        return self.recorded is None or self.recorded["verdict"] != self.finding.verdict

    def record(self) -> dict[str, Any]:
        """One object of ``paper-checks run --json``."""
        c, f = self.claim, self.finding
        return {
            "id": c.id,
            "paper": c.paper,
            "statement": c.statement,
            "claim": c.says,
            "assumes": c.assumes,
            "predicts": c.predicts,
            "tested": c.tested,
            "verdict": str(f.verdict),
            "recorded": None if self.recorded is None else self.recorded["verdict"],
            "expected": str(c.expects),
            "assumption": f.assumption,
            "evidence": records.plain(f.evidence),
            "counterexample": records.plain(f.counterexample),
            "changed": [str(change) for change in self.changes],
            "reproduce": c.reproduce,
            "seconds": self.seconds,
        }


def check(claim: Claim) -> Result:
    """Run one check."""
    start = time.perf_counter()
    finding = claim.check()
    seconds = time.perf_counter() - start
    recorded = records.load(claim)
    return Result(claim, finding, recorded, records.changes(recorded, finding), seconds)


def check_all(selected: Sequence[Claim], jobs: int | None = None) -> Iterator[Result]:
    """Run checks in parallel, each result as it comes; slow ones start first."""
    from joblib import Parallel, cpu_count, delayed

    jobs = min(jobs or cpu_count(), len(selected))
    if jobs <= 1:
        yield from (check(c) for c in selected)
        return
    order = sorted(selected, key=lambda c: not c.slow)
    yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(_check)(c.id) for c in order)


def _check(id: str) -> Result:
    """One check in a worker: it looks the claim up again, since functions do not travel."""
    import torch

    torch.set_num_threads(1)
    return check(claims()[id])

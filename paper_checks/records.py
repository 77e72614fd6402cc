"""The committed record of every check: its verdict and the numbers that decided it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_checks.claims import Claim, Finding

FOLDER = Path(__file__).parent / "records"
# Numbers may move by this much between machines (rounding in linear algebra) without being called changed.
RELATIVE, ABSOLUTE = 1e-4, 1e-9


@dataclass(frozen=True)
class Change:
    """A number of the evidence that is not what was recorded."""

    where: str
    recorded: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.recorded} → {self.found}"


def as_record(finding: Finding) -> dict[str, Any]:
    """A finding as it is written to its file."""
    return {
        "verdict": str(finding.verdict),
        "assumption": finding.assumption,
        "evidence": plain(finding.evidence),
        "counterexample": plain(finding.counterexample),
    }


def plain(value: Any) -> Any:
    """The value in JSON's own types, numbers rounded to 10 digits; raises for what is not data."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"evidence holds a {type(value).__name__}")


def path(claim: Claim) -> Path:
    """Where a claim's record is kept: a file of its own, so that two people never edit the same one."""
    return FOLDER / f"{claim.id}.json"


def load(claim: Claim) -> dict[str, Any] | None:
    """The committed record, or None for a claim that has none yet."""
    file = path(claim)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def save(claim: Claim, finding: Finding) -> None:
    """Write a finding as the record."""
    text = json.dumps(as_record(finding), indent=1, ensure_ascii=False)
    path(claim).write_text(text + "\n", encoding="utf-8")


def changes(recorded: dict[str, Any] | None, finding: Finding) -> list[Change]:
    """What differs from the record beyond rounding."""
    return list(_differences("", recorded, as_record(finding))) if recorded is not None else [Change("record", "none", "new")]


def _differences(where: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(f"{where}.{key}".lstrip("."), old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{where}[{index}]", a, b)
    elif not _same(old, new):
        yield Change(where, old, new)


def _same(old: Any, new: Any) -> bool:
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (old, new)]
    return math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE) if all(numbers) else bool(old == new)

"""What a claim of a paper is, what a check finds, and the registry of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from typing import Any

from theory.errors import UserError, nearest

# The papers, in the order of the report, and how they are cited.
PAPERS = {
    "unified": "Yun et al., Beyond RLHF: A Unified Theoretical Framework of Alignment (arXiv 2506.01523)",
    "drdo": "Nath et al., Simultaneous Reward Distillation and Preference Learning (arXiv 2410.08458)",
    "distillation": "Fisch et al., Robust Preference Optimization through Reward Model Distillation (arXiv 2405.19316)",
}


class Verdict(StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    HOLDS_IF = "holds-if"
    FAILS = "fails"
    NOT_CHECKABLE = "not-checkable"


@dataclass(frozen=True)
class Finding:
    """What a check computed.

    Attributes:
        verdict: decided by the numbers, never stated in advance.
        evidence: the numbers that decided it, with instance and seed; JSON's own types.
        assumption: what must be added (``holds-if``), or why it cannot be checked (``not-checkable``).
        counterexample: numbers that break the claim as stated (``fails``), or without the added
            assumption (``holds-if``).
    """

    verdict: Verdict
    evidence: dict[str, Any]
    assumption: str = ""
    counterexample: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.verdict in (Verdict.FAILS, Verdict.HOLDS_IF) and not self.counterexample:
            raise ValueError(f"{self.verdict} needs a counterexample")
        if self.verdict in (Verdict.HOLDS_IF, Verdict.NOT_CHECKABLE) and not self.assumption:
            raise ValueError(f"{self.verdict} needs an assumption or a reason")


@dataclass(frozen=True)
class Claim:
    """A statement of a paper and the check of it.

    Attributes:
        id: ``paper-statement``, unique.
        statement: where it stands (Lemma 8, Table 2, §6).
        says: the claim, in our own words.
        assumes: what the paper assumes.
        predicts: what must then be seen.
        tested: how it is tested.
        expects: the verdict we expected before computing (math of the project, §5).
        check: computes the `Finding`.
        slow: left out of ``--fast``.
        see: another command that shows the counterexample, if there is one.
    """

    id: str
    statement: str
    says: str
    assumes: str
    predicts: str
    tested: str
    expects: Verdict
    check: Callable[[], Finding] = field(repr=False)
    slow: bool = False
    see: str = ""

    @property
    def paper(self) -> str:
        """The paper's short name."""
        return self.id.partition("-")[0]

    @property
    def reproduce(self) -> str:
        """The command that computes it again."""
        return self.see or f"paper-checks run --only {self.id}"


_CLAIMS: dict[str, Claim] = {}


def claim(id: str, *, expects: str, **known: Any) -> Callable[[Callable[[], Finding]], Callable[[], Finding]]:
    """Register a check; see `Claim` for ``known``. The function stays a plain function."""

    def register(check: Callable[[], Finding]) -> Callable[[], Finding]:
        made = Claim(id=id, expects=Verdict(expects), check=check, **known)
        if made.paper not in PAPERS:
            raise ValueError(f"{id}: the id must start with one of {', '.join(PAPERS)}")
        taken = _CLAIMS.get(id)
        if taken is not None and (taken.check.__module__, taken.check.__qualname__) != (check.__module__, check.__qualname__):
            raise ValueError(f"{id} is registered twice")
        _CLAIMS[id] = made
        return check

    return register


def claims() -> dict[str, Claim]:
    """Every claim by id, in the papers' order."""
    for paper in PAPERS:
        import_module(f"paper_checks.{paper}")
    order = list(PAPERS)
    return dict(sorted(_CLAIMS.items(), key=lambda item: order.index(item[1].paper)))


def select(paper: str | None = None, only: str | None = None, *, fast: bool = False) -> list[Claim]:
    """The claims asked for; raises `UserError` with the nearest names."""
    if paper is not None and paper not in PAPERS:
        raise UserError("--paper", paper, nearest(paper, PAPERS))
    known = claims()
    if only is not None:
        wanted = [name.strip() for name in only.split(",")]
        for name in wanted:
            if name not in known:
                raise UserError("--only", name, "is not a known check; " + nearest(name, known))
            if paper not in (None, known[name].paper):
                raise UserError("--only", name, f"is a check of {known[name].paper}, not of --paper {paper}")
        return [known[name] for name in wanted]
    return [c for c in known.values() if paper in (None, c.paper) and not (fast and c.slow)]

"""One audit from start to end, and its summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from theory import __version__
from theory.audit import consistency, efficiency, equivalence, existence, gradient, overoptimisation, robustness
from theory.audit.report import Finding, Section
from theory.audit.subject import ZERO, Subject

# The order of the report.
SECTIONS: tuple[Callable[[Subject], Section], ...] = (
    consistency.section,
    efficiency.section,
    existence.section,
    robustness.section,
    overoptimisation.section,
    gradient.section,
    equivalence.section,
)


@dataclass(frozen=True)
class Audit:
    """An objective's truth.

    Attributes:
        sections: in the order of the report.
        seconds: wall time.
    """

    subject: Subject
    sections: Sequence[Section]
    seconds: float

    @property
    def findings(self) -> Iterator[Finding]:
        """Every finding, in order."""
        return (finding for section in self.sections for finding in section.findings)

    def numbers(self, id: str) -> dict[str, Any]:
        """The numbers of a finding; empty if it does not apply."""
        return next((f.numbers for f in self.findings if f.id == id), {})

    def record(self) -> dict[str, Any]:
        """What ``theory audit --json`` prints."""
        subject, slope, constant = self.subject, self.numbers("rate.slope"), self.numbers("rate.constant")
        return {
            "method": subject.objective.name,
            "equation": subject.objective.sections.get("equation", ""),
            "consistent": self.numbers("consistency.target")["consistent"],
            "floor": subject.limit.forward_kl,
            "slope": slope.get("slope"),
            "asymptotic_constant": constant.get("delta"),
            "cramer_rao_constant": self.numbers("rate.efficiency").get("cramer_rao"),
            "efficiency": self.numbers("rate.efficiency").get("efficiency"),
            "finite_on_separable": self.numbers("existence.separable")["finite"],
            "finite_in_population": self.numbers("existence.population")["finite"],
            "intervals": {"slope": slope.get("interval"), "asymptotic_constant_simulated": constant.get("interval")},
            "hyperparameters": subject.limit.hyper,
            "default_hyperparameters": subject.defaults,
            "verdicts": [asdict(finding) for finding in self.findings],
            "tables": [{"section": s.name, **asdict(table)} for s in self.sections for table in s.tables],
            "instance": subject.describe(subject.instance),
            "reward_head": subject.options.reward_head,
            "oracle": subject.options.oracle,
            "seed": subject.seed,
            "seconds": self.seconds,
            "version": __version__,
        }


def audit(subject: Subject, progress: Callable[[str], None] = lambda title: None) -> Audit:
    """Answer every question about one objective.

    Args:
        progress: told the title of each section before it is computed.
    """
    start = time.perf_counter()
    sections = []
    for section in SECTIONS:
        progress(section.__module__.rpartition(".")[2])
        sections.append(section(subject))
    return Audit(subject, sections, time.perf_counter() - start)


# The columns of the table method × property: heading, and the finding whose verdict fills it.
MATRIX = {
    "consistent": "consistency.target",
    "floor": "",
    "efficiency": "",
    "separable": "existence.separable",
    "population": "existence.population",
    "noise": "robustness.label_noise",
    "coverage": "robustness.coverage",
    "over-opt.": "over-optimisation.gold",
    "displaces": "gradient.displacement",
}
READING = """\
floor: forward KL to the target at n = ∞ (nats, best tuned value); efficiency: share of the Cramér–Rao information;
separable, population: a finite minimiser there, at the defaults; noise: 10% flipped labels against the error of 10,000
comparisons; coverage: log–log slope of the error at n = 1e6 against C from 1 to 1e4; over-opt.: the true value peaks and
falls along the tuned path while the learned one rises; displaces: a step that lowers a pair's loss can lower its winner."""


def matrix(records: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of the table method × property, from records of audits."""
    return [_matrix_row(record) for record in records]


def _matrix_row(record: dict[str, Any]) -> tuple[str, ...]:
    verdicts = {v["id"]: v["verdict"] for v in record["verdicts"]}
    floor, share = record["floor"], record["efficiency"]
    computed = {
        "floor": "none" if floor is None else "0" if floor < ZERO else f"{floor:.4f}",
        "efficiency": "–" if share is None else f"{share:.0%}",
    }
    cells = (computed[name] if not id else verdicts[id] for name, id in MATRIX.items())
    return record["method"], *("–" if cell == "does not apply" else cell.removeprefix("slope ") for cell in cells)


def families(records: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Sets of objectives with one population minimiser at some values of their hyperparameters, largest first."""
    together: dict[str, set[str]] = {}
    for record in records:
        numbers = next(v["numbers"] for v in record["verdicts"] if v["id"] == "equivalence.minimiser")
        twins = {match["method"] for match in numbers.get("matches", ()) if match["world"] == equivalence.AS_IT_IS}
        merged = {record["method"], *twins}
        for name in list(merged):
            merged |= together.get(name, set())
        together |= dict.fromkeys(merged, merged)
    found = {tuple(sorted(group)) for group in together.values() if len(group) > 1}
    return sorted((list(group) for group in found), key=len, reverse=True)

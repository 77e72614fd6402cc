"""Which registered objectives are this one under another name: the same minimiser, or the same gradient everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from theory.audit.comparison import (
    AS_IT_IS,
    COMPARISONS,
    CONTEXTS,
    ELSEWHERE,
    HERE,
    KINDS,
    VOCAB,
    Comparison,
    Match,
    label,
)
from theory.audit.report import NUMERICAL, Finding, Section, Table
from theory.audit.subject import Subject
from theory.objectives import get, names


def equivalences(subject: Subject) -> list[Match]:
    """Every registered objective that shares the subject's population minimiser in one of a few worlds.

    Found by search: no relation between methods is written down anywhere.
    """
    others = [get(name) for name in names()]
    return list(Comparison(subject).matches(o for o in others if o.function is not subject.objective.function))


def groups(found: Mapping[str, Sequence[Match]], world: str = AS_IT_IS) -> list[list[str]]:
    """Objectives that share a population minimiser for suitable values of their tuned hyperparameters.

    Args:
        found: `equivalences` of each registered objective, by its name.
        world: `AS_IT_IS`, or `UNIFORM` for what a uniform reference makes the same besides.
    """
    group: dict[str, set[str]] = {}
    for name, matches in found.items():
        for match in matches:
            if match.world in (AS_IT_IS, world) and match.general:
                first, second = label(get(name), match.at), match.label
                joined = group.get(first, {first}) | group.get(second, {second})
                group |= dict.fromkeys(joined, joined)
    distinct = {id(members): members for members in group.values()}.values()
    return sorted((sorted(members) for members in distinct), key=lambda members: (-len(members), members))


def section(subject: Subject) -> Section:
    """Both findings and the table of matches."""
    comparison = Comparison(subject)
    others = [get(name) for name in names()]
    found = list(comparison.matches(o for o in others if o.function is not subject.objective.function))
    title = "Which other objective is it?"
    if not comparison.frames:
        return Section("equivalence", title, [_absent(*question) for question in (MINIMISERS, GRADIENTS)])
    return Section("equivalence", title, [_minimisers(found), _gradients(found)], [_table(subject, found)] * bool(found))


MINIMISERS = ("equivalence.minimiser", "Which registered objectives have the same population minimiser?")
GRADIENTS = ("equivalence.gradient", "Which registered objectives have the same gradient everywhere, up to scale?")
FAMILY = (
    f"random worlds, V = {VOCAB}, X = {CONTEXTS}, γ = {HERE[1]:g}, confirmed at γ = {ELSEWHERE[1]:g}; pairs drawn from the "
    f"first reference; n = ∞ and {COMPARISONS}"
)


def _absent(id: str, question: str) -> Finding:
    why = "it has no certified population minimiser on the small world, so there is none to share"
    return Finding(id, question, "no minimiser", why, FAMILY, NUMERICAL)


def _minimisers(found: Sequence[Match]) -> Finding:
    answer = _listed(found) if found else "no registered objective at any value of its tuned hyperparameter"
    return Finding(*MINIMISERS, "found" if found else "none found", answer, FAMILY, NUMERICAL, _numbers(found))


def _gradients(found: Sequence[Match]) -> Finding:
    parts = []
    for kind in KINDS[:2]:
        some = [match for match in found if match.kind == kind]
        parts += [f"{kind}: {_listed(some)}"] * bool(some)
    same = [match for match in found if match.scale is not None]
    none = "none of those with the same population minimiser" if found else "none: none has the same population minimiser"
    answer = "; ".join(parts) or none
    return Finding(*GRADIENTS, "found" if same else "none found", answer, FAMILY, NUMERICAL, _numbers(same))


def _numbers(found: Sequence[Match]) -> dict[str, list[dict[str, object]]]:
    return {"matches": [{**asdict(match), "kind": match.kind} for match in found]}


def _listed(found: Sequence[Match]) -> str:
    """Matches by world, the subject's hyperparameters and the value found; those with a term switched off counted."""
    worlds: dict[str, list[Match]] = {}
    for match in found:
        at = _values(match.at)
        worlds.setdefault(match.world + (f" (at {at})" if at else ""), []).append(match)
    return "; ".join(f"{world}: {_methods(matches)}" for world, matches in worlds.items())


def _methods(matches: Sequence[Match]) -> str:
    whole = [match for match in matches if not match.changed] or matches
    values: dict[str, list[str]] = {}
    for match in whole:
        values.setdefault(match.where, []).append(match.label)
    parts = [" and ".join(labels) + (f" at {where}" if where else "") for where, labels in values.items()]
    rest = len(matches) - len(whole)
    return ", ".join([*parts, *[f"{rest} more with a term at its lowest weight"] * bool(rest)])


def _values(values: dict[str, float]) -> str:
    return ", ".join(f"{name.rstrip('_')} = {value:g}" for name, value in values.items())


def _table(subject: Subject, found: Sequence[Match]) -> Table:
    rows = [
        (m.method, _values(m.values), m.where, _values(m.at), m.world, m.kind, m.scale, m.divergence, m.on_data) for m in found
    ]
    mine = f"{subject.objective.name} at"
    columns = ("method", "at", "found", mine, "world", "sameness", "scale", "KL, n = ∞", f"KL, n = {COMPARISONS}")
    return Table("Equivalent objectives", columns, rows)

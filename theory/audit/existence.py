"""Existence and degeneracy: on which data the objective has no finite minimiser, and what goes to 0."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from theory.audit.designs import DESIGNS, SEPARABLE, Design
from theory.audit.report import EXACT, NUMERICAL, SAMPLED, Finding, Line, Panel, Section, Table, yes
from theory.audit.subject import Subject, is_minimum, runs_away
from theory.sampling import draw
from theory.simulation import make_task
from theory.solvers.selection import Search
from theory.solvers.tabletask import TableTask
from theory.statistics.rates import Interval, proportion

# The bounded estimate whose masses are shown: so small a ridge that they are those of the limit.
SHOWN_RIDGE = 1e-4
# A response of less than this share of a uniform policy's is on its way to 0 there.
GONE = 1e-2
SIZES = (10**2, 10**3, 10**4, 10**5, 10**6)
DATA_SETS = 200


def section(subject: Subject) -> Section:
    """Existence on small designs, in the population, and its probability at n."""
    found = [examine(subject, design, subject.defaults) for design in DESIGNS]
    rates = [degenerate_at(subject, n) for n in SIZES]
    findings = [_separable(subject, found), _designs(subject, found), _population(subject), _probability(subject, rates)]
    columns = ("data", "finite minimiser", "goes to 0", "mass by role (under π_ref)")
    table = Table("Small data sets, default hyperparameters, uniform reference, no ridge", columns, [_row(e) for e in found])
    rate_table = Table(
        "Probability of having no finite minimiser",
        ("n", "share of data sets", "low", "high"),
        [(n, r.value, r.low, r.high) for n, r in zip(SIZES, rates, strict=True)],
    )
    return Section("existence", "When does it degenerate?", findings, [table, rate_table], [_panel(rates)])


@dataclass(frozen=True)
class Examined:
    """An objective on a design.

    Attributes:
        finite: it has a finite minimiser without a ridge; None if undecided.
        vanishing: responses whose probability goes to 0.
        mass: probability of each role under a barely bounded estimate; share of the responses beside it.
    """

    design: Design
    finite: bool | None
    vanishing: list[int]
    mass: dict[str, tuple[float, float]]


def examine(subject: Subject, design: Design, values: dict[str, float]) -> Examined:
    """Whether the objective has a finite minimiser on a design, and where its mass goes if not."""
    objective, gamma = subject.objective, subject.instance.gamma
    bare = design.task(gamma, 0.0, subject.options)
    hyper = Search(objective, [bare]).full(values)
    finite = is_minimum(bare, objective, hyper)
    bounded = Search(objective, [design.task(gamma, SHOWN_RIDGE, subject.options)]).at(values)
    policy = bounded.fits[0].logp[0, 0].exp().numpy()
    gone = np.flatnonzero(bare.vanishing(objective, hyper)[0, 0]).tolist()
    if finite is False and not gone:  # a flight that no structure predicts: read off the policy
        gone = np.flatnonzero(policy < GONE / len(policy)).tolist()
    roles = np.array(design.roles)
    mass = {role: (float(policy[roles == role].sum()), float((roles == role).mean())) for role in dict.fromkeys(design.roles)}
    return Examined(design, finite, gone if finite is False else [], mass)


def _row(found: Examined) -> tuple[str, ...]:
    names = ", ".join(f"{i} ({found.design.roles[i]})" for i in found.vanishing)
    masses = ", ".join(f"{role} {mass:.2g} ({share:.2g})" for role, (mass, share) in found.mass.items())
    return found.design.name, yes(found.finite), names or "–", masses


def _at(subject: Subject) -> str:
    values = ", ".join(f"{name.rstrip('_')} = {value:g}" for name, value in subject.defaults.items())
    return f" at {values}" if values else ""


def _separable(subject: Subject, found: list[Examined]) -> Finding:
    one = next(e for e in found if e.design is SEPARABLE)
    answer = {
        True: f"finite{_at(subject)}",
        False: f"no: {len(one.vanishing)} of {len(one.design.roles)} probabilities go to 0{_at(subject)}",
        None: f"KL(π‖π_ref) competes with a slower drain{_at(subject)}: structure does not decide",
    }[one.finite]
    return Finding(
        "existence.separable",
        "Has it a finite minimiser on separable data?",
        yes(one.finite),
        answer,
        f"{SEPARABLE.name}, V = {len(SEPARABLE.roles)}, γ = {subject.instance.gamma:g}",
        EXACT,
        {"finite": one.finite, "vanishing": one.vanishing, "hyperparameters": subject.defaults},
    )


def _designs(subject: Subject, found: list[Examined]) -> Finding:
    lost = [e.design.name for e in found if e.finite is False]
    open_ = [e.design.name for e in found if e.finite is None]
    answer = f"no finite minimiser on: {'; '.join(lost)}" if lost else "finite wherever that was decided"
    answer += f"; not decided on: {'; '.join(open_)}" if open_ else ""
    verdict = "no" if lost else "not decided" if open_ else "yes"
    numbers = {e.design.name: {"finite": e.finite, "vanishing": e.vanishing, "mass": e.mass} for e in found}
    return Finding(
        "existence.designs",
        "Is it finite on disjoint, one-label and contested pairs too?",
        verdict,
        answer + _at(subject),
        f"{len(DESIGNS)} small designs, uniform reference",
        EXACT,
        numbers,
    )


def _population(subject: Subject) -> Finding:
    best, default = subject.limit, subject.untuned
    searched = subject.settings.searched
    answer = f"{yes(default.finite)}{_at(subject)}"
    if searched and best.hyper != default.hyper:
        answer += f"; {yes(best.finite)} at {searched} = {best.hyper[searched]:.4g}, best for the target"
    return Finding(
        "existence.population",
        "Has it a finite minimiser in the population?",
        yes(default.finite),
        answer,
        subject.describe(subject.instance),
        EXACT if default.regular or default.finite is False else NUMERICAL,
        {"finite": default.finite, "finite_at_best": best.finite},
    )


def degenerate_at(subject: Subject, n: int) -> Interval:
    """Share of data sets of n comparisons without a finite minimiser at the defaults; undecided ones do not count."""
    data = draw(subject.instance, n, subject.seed, range(DATA_SETS))
    task = make_task(subject.instance, data, replace(subject.settings, options=replace(subject.options, ridge=0.0)))
    assert isinstance(task, TableTask)
    search = Search(subject.objective, [task])
    hyper = search.full(subject.defaults)
    lost = task.vanishing(subject.objective, hyper).any((1, 2)) & ~task.undecided(subject.objective, hyper)
    if task.drain(subject.objective, hyper).levels_off(DATA_SETS).any():
        (fit,) = search.fit(hyper, search.references())
        lost |= runs_away(task, subject.objective, hyper, fit)
    return proportion(int(lost.sum()), DATA_SETS)


def _probability(subject: Subject, rates: list[Interval]) -> Finding:
    said = ", ".join(f"{r.value:.0%} at n = {n:.0e}" for n, r in zip(SIZES, rates, strict=True))
    return Finding(
        "existence.probability",
        "How often does it degenerate at n?",
        "never" if all(r.value == 0 for r in rates) else "at small n" if rates[-1].value == 0 else "often",
        said + _at(subject),
        f"{subject.describe(subject.instance)}; {DATA_SETS} data sets at each n",
        SAMPLED,
        {"n": list(SIZES), "share": [r.value for r in rates], "low": [r.low for r in rates], "high": [r.high for r in rates]},
    )


def _panel(rates: list[Interval]) -> Panel:
    sizes = [float(n) for n in SIZES]
    line = Line("no finite minimiser", sizes, [r.value for r in rates], [r.low for r in rates], [r.high for r in rates])
    takeaway = f"Share of data sets without a finite minimiser: {rates[0].value:.0%} at n = {SIZES[0]:,}, "
    takeaway += f"{rates[-1].value:.0%} at n = {SIZES[-1]:,} (bands: 95% Wilson intervals)."
    return Panel("Degeneracy at n", "comparisons n", "share of data sets", [line], x_log=True, takeaway=takeaway)

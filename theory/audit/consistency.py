"""Fisher consistency: whether the target is the objective's population minimiser, and what is if it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from theory.audit.report import EXACT, NUMERICAL, Finding, Line, Panel, Section, Table, yes
from theory.audit.subject import ZERO, Limit, Subject, context_values, population_limit, repeated, runs_away
from theory.instances import Instance
from theory.instances.tabular import Array
from theory.objectives.registry import Hyperparameter
from theory.sampling import population
from theory.simulation import distance_to_target, make_task
from theory.solvers.newton import CERTIFIED
from theory.solvers.selection import GRID_HIGH, GRID_LOW, Search, grid
from theory.solvers.tabletask import TableTask

# Starts of the search for other minima.
STARTS = 24
# Two minima are the same basin when their policies differ by less than this in every log-probability.
SAME = 1e-6
# Multiples of a hyperparameter's default that a scan tries when none are asked for.
MULTIPLES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
EXTREME_RESPONSES = 3


def section(subject: Subject) -> Section:
    """Everything about the population minimiser."""
    limits = [population_limit(instance, subject.settings) for instance in subject.family[1:]]
    limits = [subject.limit, *limits]
    scans = [scan(subject, p) for p in _scanned(subject)]
    findings = [
        _target(subject, limits),
        _stationary(subject),
        _minimum(subject),
        _law(subject, limits),
        *(_scan_finding(subject, found) for found in scans),
    ]
    tables = [_family_table(subject, limits), *_weight_table(subject.limit), *(_scan_table(found) for found in scans)]
    return Section("consistency", "Does it converge to the target policy?", findings, tables, _panels(subject))


def _at(subject: Subject, limit: Limit) -> str:
    """The hyperparameters of a limit in words, with a space before; nothing if there are none."""
    values = ", ".join(f"{name.rstrip('_')} = {value:.4g}" for name, value in limit.hyper.items())
    chosen = " (best for the target)" if subject.settings.searched else ""
    return f" at {values}{chosen}" if values else ""


def consistent(limits: Sequence[Limit]) -> bool:
    """Whether every population minimiser is the target to the precision of float64."""
    return all(limit.forward_kl <= ZERO for limit in limits)


def _target(subject: Subject, limits: Sequence[Limit]) -> Finding:
    floors = [limit.forward_kl for limit in limits]
    same = consistent(limits)
    searched = subject.settings.searched
    value = limits[0].hyper[searched] if searched is not None else 1.0
    edge = {True: "0", False: "∞"}[value < 1] if same and not GRID_LOW <= value <= GRID_HIGH else None
    if not np.isfinite(floors).all():
        answer = "it has no population minimiser: there is nothing to converge to"
    elif same:
        answer = f"the population minimiser is π* to within {max(floors):.0e} nats on every instance{_at(subject, limits[0])}"
        answer += f"; reached as {searched} → {edge}" if edge else ""
    else:
        answer = f"forward KL of the population minimiser to π*: {floors[0]:.4g} nats{_at(subject, limits[0])}"
        answer += f"; {', '.join(f'{f:.3g}' for f in floors[1:])} on its companions"
    certified = all(limit.regular for limit in limits)
    return Finding(
        "consistency.target",
        "Is the target the population minimiser?",
        yes(same),
        answer,
        _family(subject),
        EXACT if certified else NUMERICAL,
        {"consistent": same, "floors": floors, "hyperparameters": [limit.hyper for limit in limits], "searched": searched},
    )


def _family(subject: Subject) -> str:
    others = "; ".join(f"V = {i.vocab}, γ = {i.gamma:g}" for i in subject.family[1:])
    return f"{subject.describe(subject.instance)}; companions: {others}"


def _stationary(subject: Subject) -> Finding:
    limit = subject.limit
    gradient = gradient_at_target(limit)
    small = gradient <= CERTIFIED
    return Finding(
        "consistency.stationary",
        "Is π* a stationary point of the population objective?",
        yes(small),
        f"the largest component of its gradient in the logits at π* is {gradient:.1e}{_at(subject, limit)}",
        subject.describe(limit.instance),
        EXACT,
        {"gradient": gradient},
    )


def gradient_at_target(limit: Limit) -> float:
    """Max-norm of the population objective's gradient in the parameters, at the target and r = γ log π*.

    The least member's, for an ensemble of rewards.
    """
    task, objective = limit.task, limit.settings.objective
    target = torch.from_numpy(np.log(limit.instance.target))[None]
    truth = torch.from_numpy(limit.instance.reward())[None]
    norms = []
    for reward in task.rewards(objective):
        problem = task.problem(objective, limit.chosen.hyper, reward)
        laid_out = target if problem.shared else target.flatten(0, 1).unsqueeze(1)
        student = truth if problem.shared else truth.flatten(0, 1).unsqueeze(1)
        _, gradient, _ = problem.evaluate(problem.start(laid_out, student))
        norms.append(float(gradient.abs().max()))
    return min(norms)


@dataclass(frozen=True)
class Basins:
    """Where many starts ended, all contexts together, since each is a problem of its own.

    Attributes:
        shares: share of the contexts × starts in each basin of their context; the reported limit's first.
        lower: the most by which a start went below the reported limit in some context, nats; 0 if none did.
        unfinished: share of the starts that did not reach a stationary point.
    """

    shares: list[float]
    lower: float
    unfinished: float


def basins(limit: Limit, starts: int = STARTS, seed: int = 0) -> Basins:
    """Minimise the population objective from normal logits of scale 2, many times, context by context."""
    objective, instance = limit.settings.objective, limit.instance
    task = make_task(instance, repeated(population(instance), starts), limit.settings)
    assert isinstance(task, TableTask)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(5,)))
    logits = torch.from_numpy(2 * rng.standard_normal((starts, instance.contexts, instance.vocab)))
    hyper = {name: value.expand(starts) for name, value in limit.chosen.hyper.items()}
    fit = Search(objective, [task]).fit(hyper, [torch.log_softmax(logits, -1)])[0]
    certified = np.asarray(fit.gradient_norm <= CERTIFIED)
    if not certified.any():
        return Basins([], 0.0, 1.0)
    logp = fit.logp.numpy()[certified]
    ranks = np.stack([_ranks(logp[:, x], limit.logp[x]) for x in range(instance.contexts)], 1)
    counts = np.bincount(ranks.ravel())
    reported, reached = (context_values(task, objective, hyper, p) for p in (limit.fit.logp.expand(starts, -1, -1), fit.logp))
    lower = (reported - reached)[certified]
    rounding = 1e-9 * (1 + float(np.abs(reached).max()))
    worst = float(lower.max())
    return Basins((counts / ranks.size).tolist(), worst if worst > rounding else 0.0, 1 - float(certified.mean()))


def _ranks(logp: Array, reported: Array) -> np.ndarray:
    """The basin of every start in one context, numbered by distance from the limit reported."""
    order = np.argsort(np.abs(logp - reported).max(1), kind="stable")
    labels = np.full(len(logp), -1)
    for k in order:
        if labels[k] < 0:
            same = (np.abs(logp - logp[k]).max(1) <= SAME) & (labels < 0)
            labels[same] = labels.max() + 1
    return labels


def _minimum(subject: Subject) -> Finding:
    limit, question = subject.limit, "Is the stationary point found the global minimum?"
    if limit.finite is False:
        return Finding("consistency.minimum", question, "no minimiser", "the infimum is not attained", "", EXACT)
    kind = limit.chosen.kind
    family = subject.describe(limit.instance)
    certified = f"gradient {float(limit.fit.gradient_norm[0]):.1e}"
    if kind != "local":
        why = "in closed form" if kind == "closed-form" else "convex in the parameters, so it is the only minimum"
        return Finding("consistency.minimum", question, "yes", f"{why}; {certified}", family, EXACT, {"certificate": kind})
    if not limit.regular:
        steep = float(limit.fit.gradient_norm[0]) > CERTIFIED
        cause = "the objective has a kink there" if steep else "it is flat in some direction of the policy"
        answer = f"{certified}: {cause}"
        return Finding("consistency.minimum", question, "not certified", answer, family, NUMERICAL, {"certificate": kind})
    found = basins(limit, seed=subject.seed)
    alone = len(found.shares) == 1
    verdict = "no" if found.lower else "yes" if alone else "lowest of several"
    answer = f"{STARTS} random starts in each context reach {len(found.shares)} basin{'s' * (not alone)}"
    answer += "" if alone else f", {found.shares[0]:.1%} of them this one"
    answer += f"; another is lower by {found.lower:.2g} nats" if found.lower else ""
    answer += f"; {found.unfinished:.0%} stopped elsewhere" if found.unfinished else ""
    return Finding("consistency.minimum", question, verdict, answer, family, NUMERICAL, {"certificate": kind, **vars(found)})


@dataclass(frozen=True)
class Law:
    """log π_∞ ≈ a·log π* + b·log π_ref + const, fitted by least squares context by context about its mean.

    Attributes:
        target, reference: a and b.
        explained: R², 1 where the law is exact.
    """

    target: float
    reference: float
    explained: float


def law(limit: Limit) -> Law:
    """How the limit mixes the target and the reference (ours); exact for RLHF and DPO: a = γ/β, b = 1."""

    def centred(log_p: Array) -> Array:
        return (log_p - log_p.mean(1, keepdims=True)).ravel()

    instance = limit.instance
    x = np.stack([centred(np.log(instance.target)), centred(np.log(instance.reference))], 1)
    y = centred(limit.logp)
    (a, b), *_ = np.linalg.lstsq(x, y, rcond=None)
    residual = y - x @ np.array([a, b])
    return Law(float(a), float(b), 1 - float(residual @ residual) / float(y @ y))


def _law(subject: Subject, limits: Sequence[Limit]) -> Finding:
    limit, question = subject.limit, "What is the population minimiser?"
    family = subject.describe(limit.instance)
    if limit.finite is False:
        return Finding("consistency.limit", question, "no minimiser", "mass runs to the boundary", family, EXACT)
    found = law(limit)
    exact = found.explained > 1 - 1e-9
    formula = f"π*^{found.target:.3f} · π_ref^{found.reference:.3f}"
    if consistent(limits):
        verdict, answer = "π*", "the target itself"
    elif exact:
        verdict, answer = "a mixture", f"exactly proportional to {formula}"
    else:
        verdict, answer = "biased", f"near {formula}, which explains {found.explained:.1%} of its variation"
    answer += _at(subject, limit)
    return Finding("consistency.limit", question, verdict, answer, family, EXACT if limit.regular else NUMERICAL, vars(found))


def _family_table(subject: Subject, limits: Sequence[Limit]) -> Table:
    tuned = subject.settings.searched
    columns = ("instance", "γ", "floor (nats)", *([tuned, f"{tuned}/γ"] if tuned else []), "certificate")
    rows = []
    for limit in limits:
        best = [limit.hyper[tuned], limit.hyper[tuned] / limit.instance.gamma] if tuned else []
        rows.append((subject.describe(limit.instance), limit.instance.gamma, limit.forward_kl, *best, limit.chosen.kind))
    return Table("The floor on four worlds", columns, rows)


def _weight_table(limit: Limit) -> list[Table]:
    """The responses that the limit over- and under-weights most; none for a consistent objective."""
    if limit.finite is False or limit.forward_kl <= ZERO:
        return []
    gap = limit.logp - np.log(limit.instance.target)
    order = np.argsort(gap, axis=None)
    rows = []
    for flat in [*order[:EXTREME_RESPONSES], *order[-EXTREME_RESPONSES:]]:
        x, y = np.unravel_index(flat, gap.shape)
        target, reference = limit.instance.target[x, y], limit.instance.reference[x, y]
        rows.append((int(x), int(y), float(target), float(reference), float(np.exp(limit.logp[x, y])), float(gap[x, y])))
    columns = ("context", "response", "π*", "π_ref", "limit", "log limit/π*")
    return [Table("Most under- and over-weighted responses", columns, rows)]


@dataclass(frozen=True)
class Scan:
    """The floor along one hyperparameter, the tuned one chosen anew at every value.

    Attributes:
        values, floors: tried, and the forward KL of the population minimiser there (nats; inf where there is none).
        tuned: the tuned hyperparameter's best values, or None.
    """

    parameter: Hyperparameter
    values: list[float]
    floors: list[float]
    tuned: list[float] | None

    @property
    def best(self) -> int:
        """Index of the least floor."""
        return int(np.argmin(self.floors))


def _scanned(subject: Subject) -> list[Hyperparameter]:
    return [p for p in subject.objective.hyperparameters if p.name != subject.settings.searched]


def scan(subject: Subject, parameter: Hyperparameter, instance: Instance | None = None) -> Scan:
    """Population minimisers along a hyperparameter: the values asked for, or multiples of its default."""
    asked = subject.scans.get(parameter.name)
    values = asked or _multiples(parameter, subject.defaults[parameter.name])
    instance = instance or subject.instance
    settings = replace(subject.settings, values={k: v for k, v in subject.values.items() if k != parameter.name})
    task = make_task(instance, repeated(population(instance), len(values)), settings)
    search, criterion = Search(subject.objective, [task]), distance_to_target(instance)
    fixed: dict[str, float | Tensor] = {**subject.objective.resolve(settings.values)}
    fixed[parameter.name] = torch.tensor(values, dtype=torch.float64)
    chosen = search.finish(*search.choose(fixed, criterion)) if settings.searched else search.at(fixed)
    assert isinstance(task, TableTask)
    gone = task.vanishing(subject.objective, chosen.hyper).any((1, 2)) & ~task.undecided(subject.objective, chosen.hyper)
    if task.drain(subject.objective, chosen.hyper).levels_off(task.seeds).any():
        gone |= runs_away(task, subject.objective, chosen.hyper, chosen.fits[0])
    floors = np.where(gone, np.inf, criterion(chosen.fits).numpy())
    tuned = chosen.hyper[settings.searched].tolist() if settings.searched else None
    return Scan(parameter, values, floors.tolist(), tuned)


def _multiples(parameter: Hyperparameter, centre: float) -> list[float]:
    tried = sorted({(centre or 1.0) * m for m in MULTIPLES} | {centre})
    about = parameter.about
    return [v for v in tried if about.low <= v <= about.high and not (about.open_low and v <= about.low)]


def _scan_finding(subject: Subject, found: Scan) -> Finding:
    name = found.parameter.option[2:]
    best, floor = found.values[found.best], found.floors[found.best]
    matters = not np.allclose(found.floors, found.floors[0], rtol=1e-3, atol=ZERO)
    answer = f"least floor {floor:.3g} nats at {name} = {best:g}" if matters else "the floor is the same at every value tried"
    answer += f" among {', '.join(f'{v:g}' for v in found.values)}"
    return Finding(
        f"consistency.{name}",
        f"Does {name} matter for the limit?",
        yes(matters),
        answer,
        subject.describe(subject.instance),
        EXACT,
        {"values": found.values, "floors": found.floors, "tuned": found.tuned, "best": best},
    )


def _scan_table(found: Scan) -> Table:
    name = found.parameter.option[2:]
    columns = (name, "floor (nats)", *(["tuned value"] if found.tuned else []))
    rows = [
        (v, f, *([found.tuned[i]] if found.tuned else []))
        for i, (v, f) in enumerate(zip(found.values, found.floors, strict=True))
    ]
    return Table(f"The floor along {name}", columns, rows)


def path(subject: Subject) -> tuple[Array, Array]:
    """The tuned hyperparameter's grid and the forward KL of the population minimiser along it (nats)."""
    parameter = subject.objective.tuned
    assert parameter is not None
    values = [v for v in grid(parameter) if v > 0][::2]
    task = make_task(subject.instance, repeated(population(subject.instance), len(values)), subject.settings)
    search = Search(subject.objective, [task])
    hyper: dict[str, float | Tensor] = {**subject.defaults}
    hyper[parameter.name] = torch.tensor(values, dtype=torch.float64)
    fits = search.fit(search.full(hyper), search.references())
    return np.array(values), distance_to_target(subject.instance)(fits).numpy()


def _panels(subject: Subject) -> list[Panel]:
    parameter = subject.objective.tuned
    if parameter is None or subject.limit.finite is False:
        return []
    values, floors = path(subject)
    shown = np.maximum(floors, 1e-16)
    line = Line("population minimiser", values.tolist(), shown.tolist())
    floor = subject.limit.forward_kl
    takeaway = f"The least forward KL along the path is {floor:.3g} nats."
    levels = [("floor", floor)] if floor > ZERO else []
    label = parameter.option[2:]
    return [Panel(f"Floor along {label}", label, "forward KL to π* (nats)", [line], True, True, levels, takeaway)]

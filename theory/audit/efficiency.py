"""Rate and efficiency: how fast an objective approaches its limit, and how close to the statistical limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from theory.audit.report import EXACT, SAMPLED, Finding, Line, Panel, Section, Table, yes
from theory.audit.subject import ZERO, Limit, Subject
from theory.instances.tabular import Array
from theory.sampling import draw
from theory.simulation import distance_to_target, make_task
from theory.solvers.selection import Search
from theory.solvers.task import Fit
from theory.statistics import divergences
from theory.statistics.efficiency import asymptotic_constant
from theory.statistics.rates import Interval, mean, slope
from theory.statistics.sandwich import variance_constant

# Data sets behind the simulated constant, and at each n of the curve.
MANY, FEW = 800, 32
# The constant is simulated where c/n is this many nats: far below any curvature of the KL.
EXPANSION = 1e-7
SIZES = (10**4, 10**5, 10**6, 10**7, 10**8, 10**9)
# The slope is taken where the error has settled.
SETTLED = 10**6
# The delta method and the simulation must agree within this.
AGREE = 0.05


@dataclass(frozen=True)
class Constant:
    """n·KL(π_∞‖π̂) as n → ∞, by the delta method and by simulation (nats).

    Attributes:
        delta: ½ Σ_x tr(S_x V_x) from the sandwich covariance.
        simulated: the mean over data sets, with its interval.
        n: comparisons in each.
    """

    delta: float
    simulated: Interval
    n: int

    @property
    def ratio(self) -> float:
        """Simulated over delta method."""
        return self.simulated.value / self.delta


def section(subject: Subject) -> Section:
    """Slope, asymptotic constant and efficiency."""
    limit = subject.limit
    title = "How fast, and how close to the Cramér–Rao limit?"
    if not limit.regular:
        why = "it has no population minimiser" if limit.finite is False else "its population minimiser is not a regular one"
        questions = {"slope": "Slope of log KL against log n", "constant": "Asymptotic constant", "efficiency": "Efficiency"}
        findings = [Finding(f"rate.{id}", q, "does not apply", why, "", EXACT) for id, q in questions.items()]
        return Section("rate", title, findings)
    curve = learning_curve(subject)
    constant = asymptotics(subject)
    return Section(
        "rate",
        title,
        [_slope(subject, curve), _constant(subject, constant), _efficiency(subject, constant)],
        [_curve_table(subject, curve)],
        [_panel(subject, curve)],
    )


def fit_many(subject: Subject, n: int, data_sets: int, limit: Limit | None = None) -> Fit:
    """Fits to independent data sets at the hyperparameters of the limit, each started from it."""
    limit = limit or subject.limit
    task = make_task(limit.instance, draw(limit.instance, n, subject.seed, range(data_sets)), subject.settings)
    hyper = {name: value.expand(data_sets) for name, value in limit.chosen.hyper.items()}
    return Search(subject.objective, [task]).fit(hyper, [limit.fit.logp.expand(data_sets, -1, -1)])[0]


def to_limit(limit: Limit, fit: Fit) -> Array:
    """Σ_x ρ_x KL(π_∞‖π̂) of every data set, nats."""
    return divergences.forward_kl(limit.fit.logp, fit.logp, torch.from_numpy(limit.instance.context_weights)).numpy()


def asymptotics(subject: Subject) -> Constant | None:
    """The asymptotic constant twice; None where the minimiser is no smooth function of the data (an ensemble's least)."""
    limit = subject.limit
    try:
        delta = float(variance_constant(limit.task, subject.objective, limit.chosen.hyper, limit.fit)[0])
    except NotImplementedError:
        return None
    n = int(min(max(delta / EXPANSION, 1e9), 1e15))
    return Constant(delta, mean(n * to_limit(limit, fit_many(subject, n, MANY))), n)


@dataclass(frozen=True)
class Curve:
    """Errors at each n; arrays of shape (sizes, data sets), nats."""

    sizes: Array
    to_target: Array
    to_limit: Array

    def slope(self, errors: Array) -> Interval:
        """The log–log slope where the error has settled."""
        kept = self.sizes >= SETTLED
        n = np.repeat(self.sizes[kept], errors.shape[1])
        return slope(n, errors[kept].ravel())


def learning_curve(subject: Subject) -> Curve:
    """Forward KL to the target and to the method's own limit against n, at the limit's hyperparameters."""
    limit, distance = subject.limit, distance_to_target(subject.limit.instance)
    fits = [fit_many(subject, n, FEW) for n in SIZES]
    target = np.array([distance([fit]).numpy() for fit in fits])
    return Curve(np.array(SIZES, dtype=float), target, np.array([to_limit(limit, fit) for fit in fits]))


def _family(subject: Subject, detail: str) -> str:
    return f"{subject.describe(subject.instance)}; {detail}"


def _slope(subject: Subject, curve: Curve) -> Finding:
    target, own = curve.slope(curve.to_target), curve.slope(curve.to_limit)
    falls = target.high < -0.5
    answer = f"slope {_signed(target)} to the target, {_signed(own)} to its own limit, for n = {SETTLED:.0e} … {SIZES[-1]:.0e}"
    numbers = {"slope": target.value, "interval": [target.low, target.high], "slope_to_limit": own.value}
    detail = f"{FEW} data sets at each n"
    return Finding(
        "rate.slope", "Does the forward KL to π* fall like 1/n?", yes(falls), answer, _family(subject, detail), SAMPLED, numbers
    )


def _signed(interval: Interval) -> str:
    return f"{interval.value:.3f} ±{(interval.high - interval.low) / 2:.2g}"


def _constant(subject: Subject, constant: Constant | None) -> Finding:
    question = "n·KL(π_∞‖π̂) → c: the delta method against simulation"
    if constant is None:
        why = "the least member of an ensemble is no smooth function of the data"
        return Finding("rate.constant", question, "does not apply", why, "", EXACT)
    simulated = constant.simulated
    agree = abs(constant.ratio - 1) <= AGREE
    answer = (
        f"c = {constant.delta:.4g} nats by the delta method, {simulated.value:.4g} ±{(simulated.high - simulated.low) / 2:.2g}"
    )
    answer += f" simulated at n = {constant.n:.1e} (ratio {constant.ratio:.3f})"
    numbers = {
        "delta": constant.delta,
        "simulated": simulated.value,
        "interval": [simulated.low, simulated.high],
        "n": constant.n,
    }
    return Finding(
        "rate.constant",
        question,
        "agree" if agree else "differ",
        answer,
        _family(subject, f"{MANY} data sets"),
        SAMPLED,
        {**numbers, "ratio": constant.ratio},
    )


def _efficiency(subject: Subject, constant: Constant | None) -> Finding:
    question = "What share of the information in a comparison does it use?"
    bound = asymptotic_constant(subject.instance)
    family = subject.describe(subject.instance)
    if subject.limit.forward_kl > ZERO:
        answer = f"it stops at {subject.limit.forward_kl:.3g} nats, so that c/(n·KL) → 0 (Cramér–Rao c = {bound:.4g} nats)"
        return Finding("rate.efficiency", question, "none", answer, family, EXACT, {"efficiency": 0.0, "cramer_rao": bound})
    if constant is None:
        return Finding("rate.efficiency", question, "does not apply", "it has no asymptotic constant", family, EXACT)
    share = bound / constant.delta
    answer = f"Cramér–Rao c = {bound:.4g} nats over its own {constant.delta:.4g}: {share:.1%}"
    numbers = {"efficiency": share, "cramer_rao": bound}
    return Finding("rate.efficiency", question, "all" if share > 0.999 else "part", answer, family, EXACT, numbers)


def _curve_table(subject: Subject, curve: Curve) -> Table:
    bound = asymptotic_constant(subject.instance)
    columns = ("n", "forward KL to π*", "KL to its own limit", "Cramér–Rao c/n")
    rows = [
        (n, float(a.mean()), float(b.mean()), bound / n)
        for n, a, b in zip(curve.sizes, curve.to_target, curve.to_limit, strict=True)
    ]
    return Table("Error against n (nats, means over data sets)", columns, rows)


def _panel(subject: Subject, curve: Curve) -> Panel:
    def line(label: str, errors: Array) -> Line:
        low, high = np.percentile(errors, [10, 90], axis=1)
        return Line(label, curve.sizes.tolist(), errors.mean(1).tolist(), low.tolist(), high.tolist())

    bound = asymptotic_constant(subject.instance)
    lines = [line("to the target", curve.to_target)]
    floor = subject.limit.forward_kl
    if floor > ZERO:
        lines.append(line("to its own limit", curve.to_limit))
    lines.append(Line("Cramér–Rao limit c/n", curve.sizes.tolist(), (bound / curve.sizes).tolist()))
    last = curve.to_target[-1].mean()
    takeaway = f"At n = {curve.sizes[-1]:.0e} the forward KL to π* is {last:.2g} nats; the Cramér–Rao limit there is "
    takeaway += f"{bound / curve.sizes[-1]:.2g}. Bands: 10th to 90th percentile over data sets."
    levels = [("floor", floor)] if floor > ZERO else []
    return Panel("Error against n", "comparisons n", "forward KL (nats)", lines, True, True, levels, takeaway)

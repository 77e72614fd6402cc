"""A policy fitted to a user's own comparisons: no target is known, so the data judge the fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from theory.errors import UserError
from theory.instances.tabular import Array
from theory.sampling import WinCounts
from theory.sampling.comparisons import Comparisons, Group, Reference, uniform_reference
from theory.simulation import Settings
from theory.solvers.distinct import DistinctTask
from theory.solvers.edgetask import EdgeTask
from theory.solvers.existence import Mask, WinGraph
from theory.solvers.options import Options
from theory.solvers.selection import Chosen, Search
from theory.solvers.task import Fit, Task, World
from theory.statistics import sandwich

Reasons = NDArray[np.str_]

# Comparisons in contexts with two or more of them, below which holding a fifth out says nothing.
FEWEST_TO_VALIDATE = 50

# Why a context has no confidence intervals.
ENSEMBLE = "the least member of an ensemble is not a smooth function of the data"
SPARSE = "the table of pairs is too large to hold"
NOT_FINITE = "the objective has no finite minimiser there without the ridge"
FLAT = "without the ridge the data leave the policy open there, or fix it only to rounding"
TOO_FEW = "too few or too one-sided comparisons there to estimate a variance"


@dataclass(frozen=True)
class Degeneracy:
    """What the structure of the data says about the fit.

    Attributes:
        vanishing: nodes whose probability goes to 0 without the ridge, shape (N,).
        disconnected: contexts whose responses fall into parts never compared with each other, (X,).
        pairs, unanimous: compared pairs of responses, and those with all labels one way.
    """

    vanishing: Mask
    disconnected: Mask
    pairs: int
    unanimous: int

    @property
    def finite(self) -> bool:
        """Whether the objective has a finite minimiser without the ridge."""
        return not self.vanishing.any()


@dataclass(frozen=True)
class Intervals:
    """Bounds on each node's probability, shape (N,), NaN where withheld; and in how many contexts, why."""

    low: Array
    high: Array
    confidence: float
    withheld: dict[str, int]


@dataclass(frozen=True)
class FittedData:
    """A fit to comparisons.

    Attributes:
        comparisons, settings, gamma, reference: what was fitted to what.
        hyper: every hyperparameter.
        chosen: the fits of the groups of contexts, and their certificate.
        logp: log π̂ of each node, shape (N,), nats; NaN where there is no finite minimiser and no ridge.
        log_likelihood: Σ log σ(γ Δlogπ̂) over the comparisons, nats; NaN if some logp are.
        saturated: its least upper bound over all policies, the Bradley–Terry maximum.
        degeneracy, intervals: see there.
    """

    comparisons: Comparisons
    settings: Settings
    gamma: float
    reference: Reference
    hyper: dict[str, float]
    chosen: Chosen
    logp: Array
    log_likelihood: float
    saturated: float
    degeneracy: Degeneracy
    intervals: Intervals

    @property
    def coin_flip(self) -> float:
        """The log-likelihood of a fair coin, n log ½."""
        return -self.comparisons.n * math.log(2)

    @property
    def bounded(self) -> bool:
        """Whether there is a finite policy to report: a finite minimiser, or a ridge."""
        return self.degeneracy.finite or self.settings.options.ridge > 0

    @property
    def gradient_norm(self) -> float:
        """Max-norm of the gradient over all contexts, each context's objective being a mean."""
        return max(float(fit.gradient_norm[0]) for fit in self.chosen.fits)

    @property
    def iterations(self) -> int:
        """The most Newton steps that a context used."""
        return max(int(fit.iterations[0]) for fit in self.chosen.fits)


def _quiet(stage: str) -> None:
    pass


def fit(
    comparisons: Comparisons,
    settings: Settings,
    gamma: float,
    reference: Reference | None = None,
    confidence: float = 0.95,
    progress: Callable[[str], None] = _quiet,
) -> FittedData:
    """Fit an objective to comparisons; every context has its own table of the responses seen in it.

    Args:
        settings: the objective and its options; ``rule`` is ``validation`` or ``fixed``.
        gamma: γ of the preference model σ(γ Δlogπ).
        reference: log π_ref on the nodes; uniform by default.
        confidence: of the intervals.
        progress: told what is being done, stage by stage.

    Raises:
        UserError: the rule needs a target, or more comparisons than there are.
    """
    reference = reference or uniform_reference(comparisons)
    groups = comparisons.groups()
    tasks = [_task(group, reference, gamma, settings.options, comparisons.n) for group in groups]
    progress("fitting")
    chosen = _choose(Search(settings.objective, tasks), settings, comparisons)
    fitted = _Fitted(comparisons, settings, groups, tasks, chosen)
    progress("checking for degeneracy")
    degeneracy = fitted.degeneracy()
    lost = degeneracy.vanishing if settings.options.ridge == 0 else np.zeros(len(comparisons.keys), bool)
    lost = fitted.whole_contexts(lost)
    logp = np.where(lost[comparisons.context_of], np.nan, fitted.on_nodes([f.logp[0].numpy() for f in chosen.fits]))
    likelihood = -sum(float(task.log_loss(f.logp)[0]) for task, f in zip(tasks, chosen.fits, strict=True))
    saturated = saturated_log_likelihood(comparisons)
    progress("computing confidence intervals")
    return FittedData(
        comparisons,
        settings,
        gamma,
        reference,
        {name: float(value[0]) for name, value in chosen.hyper.items()},
        chosen,
        logp,
        math.nan if lost.any() else likelihood,
        saturated,
        degeneracy,
        fitted.intervals(degeneracy.vanishing, confidence),
    )


def _task(group: Group, reference: Reference, gamma: float, options: Options, n: float) -> Task:
    world = World(torch.from_numpy(reference.logp[group.nodes]), gamma)
    data = group.data
    task: Task = DistinctTask(data, world, options) if isinstance(data, WinCounts) else EdgeTask(data, world, options)
    task.share = data.n / n
    return task


def repeated(comparisons: Comparisons) -> float:
    """Comparisons in contexts that have two or more: only they can be both fitted and held out."""
    totals = comparisons.totals
    return float(totals[totals >= 2].sum())


def _choose(search: Search, settings: Settings, comparisons: Comparisons) -> Chosen:
    objective = settings.objective
    values = objective.resolve(settings.values)
    if settings.searched is None:
        return search.at(values)
    assert objective.tuned is not None
    number = f"a number ({objective.tuned.option})"
    if settings.rule == "best":
        raise UserError("--beta", "best", f"needs a known target; use validation or {number}")
    if (enough := repeated(comparisons)) < FEWEST_TO_VALIDATE:
        remedy = f"needs {FEWEST_TO_VALIDATE} comparisons in contexts with two or more, and there are {enough:g}; give {number}"
        raise UserError("--beta", "validation", remedy)
    return search.validated(values)


def saturated_log_likelihood(comparisons: Comparisons) -> float:
    """sup_π Σ log σ(γ Δlogπ) over all tables, nats; it does not depend on γ.

    A comparison between two strongly connected components of the win graph costs nothing in the
    limit, and within a component the Bradley–Terry maximum is attained (Ford 1957).
    """
    graph = WinGraph(1, len(comparisons.keys), comparisons.chosen, comparisons.rejected)
    within = graph.components[comparisons.chosen] == graph.components[comparisons.rejected]
    sides = (getattr(comparisons, name)[within] for name in ("chosen", "rejected", "count"))
    inside = replace(comparisons, **dict(zip(("chosen", "rejected", "count"), sides, strict=True)))
    uniform, total = uniform_reference(comparisons), 0.0
    for group in inside.groups():
        if group.data.n > 0:
            task = _task(group, uniform, 1.0, Options(ridge=0.0), inside.n)
            total -= float(task.log_loss(task.reward_fit.logp)[0])
    return total


@dataclass(frozen=True)
class _Fitted:
    """The fits of the groups, and what follows from them."""

    comparisons: Comparisons
    settings: Settings
    groups: list[Group]
    tasks: list[Task]
    chosen: Chosen

    def on_nodes(self, tables: list[Array]) -> Array:
        """Tables of the groups, (X_k, K) each, as one array over the nodes."""
        found = np.full(len(self.comparisons.keys), np.nan)
        for group, table in zip(self.groups, tables, strict=True):
            found[group.nodes] = table
        return found

    def whole_contexts(self, nodes: Mask) -> Mask:
        """The contexts of any of the nodes, shape (X,)."""
        return np.bincount(self.comparisons.context_of, nodes, minlength=len(self.comparisons.sizes)) > 0

    def degeneracy(self) -> Degeneracy:
        data = self.comparisons
        vanishing = [task.vanishing(self.settings.objective, self.chosen.hyper)[0].astype(float) for task in self.tasks]
        size = len(data.keys)
        edges = coo_matrix((np.ones(len(data.chosen), np.int8), (data.chosen, data.rejected)), shape=(size, size))
        parts = connected_components(edges, directed=False)[1]
        first = np.unique(parts, return_index=True)[1]
        disconnected = np.bincount(data.context_of[first], minlength=len(data.sizes)) > 1
        low, high = np.minimum(data.chosen, data.rejected), np.maximum(data.chosen, data.rejected)
        directions = np.unique(low * size + high, return_counts=True)[1]
        return Degeneracy(self.on_nodes(vanishing) > 0, disconnected, len(directions), int((directions == 1).sum()))

    def intervals(self, vanishing: Mask, confidence: float) -> Intervals:
        drained = self.whole_contexts(vanishing)
        parts = [
            self._bounds(group, task, found, drained[group.contexts], confidence)
            for group, task, found in zip(self.groups, self.tasks, self.chosen.fits, strict=True)
        ]
        low, high, reasons = zip(*parts, strict=True)
        names, counts = np.unique(np.concatenate(reasons), return_counts=True)
        withheld = {str(name): int(count) for name, count in zip(names, counts, strict=True) if name}
        return Intervals(self.on_nodes(list(low)), self.on_nodes(list(high)), confidence, withheld)

    def _bounds(self, group: Group, task: Task, found: Fit, drained: Mask, confidence: float) -> tuple[Array, Array, Reasons]:
        """Bounds of shape (X_k, K), and why they are withheld ("" if they are not), shape (X_k,)."""
        objective, nothing = self.settings.objective, np.full(group.nodes.shape, np.nan)
        if objective.ensemble > 1 or not isinstance(task, DistinctTask) or drained.all():
            why = ENSEMBLE if objective.ensemble > 1 else NOT_FINITE if drained.all() else SPARSE
            return nothing, nothing, np.full(len(drained), why)
        v = sandwich.variances(task.inner, objective, self.chosen.hyper, task.reduced(found))
        flat, few = (~known[0, task.kind] for known in (v.identified, v.estimable))
        reasons = np.select([drained, flat, few], [NOT_FINITE, FLAT, TOO_FEW], "")
        variance = v.variance[0, task.kind] / task.data.totals[0][:, None]
        bounds = sandwich.intervals(found.logp[0].numpy(), variance, confidence)
        low, high = (np.where((reasons == "")[:, None], bound, np.nan) for bound in bounds)
        return low, high, reasons

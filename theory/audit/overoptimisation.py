"""Over-optimisation: a policy that drifts away from the reference after a reward learned from too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theory.audit.report import EXACT, NUMERICAL, SAMPLED, Finding, Line, Panel, Section
from theory.audit.subject import ZERO, Subject
from theory.audit.tuning import SETTLED, pooled, table_task
from theory.audit.words import nats, within
from theory.errors import UserError
from theory.instances import Instance
from theory.instances.mismatch import with_coverage
from theory.instances.tabular import Array
from theory.sampling import draw
from theory.solvers.selection import Search, grid
from theory.statistics import divergences
from theory.statistics.rates import Interval, mean

# The world of the section: data that cover the target badly, and few of them.
COEFFICIENT, N, DATA_SETS = 100.0, 1_000, 20
# Values of the tuned hyperparameter along a path.
VALUES = 25

QUESTIONS = {
    "gold": "Does the true reward peak and then fall while the learned reward still rises?",
    "gap": "By how much does the learned reward overrate the policy at the end of the path?",
    "forward_kl": "Does the policy pass its nearest point to π* and move away again?",
}


@dataclass(frozen=True)
class Path:
    """Fits along the values of the tuned hyperparameter, from the one that holds π nearest to π_ref outwards.

    Rewards are advantages over the reference, E_π[r] − E_{π_ref}[r], so that the unknown constant
    of a learned reward cancels. Averages over contexts; shape (P, S), nats.

    Attributes:
        world: the instance with its tilted data policy.
        values: of the tuned hyperparameter, shape (P,); None where one point is all there is.
        drift: Σ_x ρ_x KL(π‖π_ref).
        gold: advantage in the true reward r* = γ log π*.
        proxy: advantage in the Bradley–Terry reward of the same data (with the ridge).
        forward_kl: Σ_x ρ_x KL(π*‖π).
        target: the target's own gold advantage.
    """

    world: Instance
    values: Array | None
    drift: Array
    gold: Array
    proxy: Array
    forward_kl: Array
    target: float

    @property
    def end(self) -> int:
        """The point of the path farthest from the reference."""
        return int(self.drift.mean(1).argmax())

    def rows(self) -> list[dict[str, Any]]:
        """Tidy rows: one a value and data set."""
        quantities = ("drift", "gold", "proxy", "forward_kl")
        return [
            {
                "value": None if self.values is None else float(self.values[p]),
                "data_set": s,
                **{name: float(getattr(self, name)[p, s]) for name in quantities},
            }
            for p, s in np.ndindex(*self.drift.shape)
        ]


def paths(
    subject: Subject,
    *,
    coefficient: float = COEFFICIENT,
    n: int = N,
    data_sets: int = DATA_SETS,
    values: Sequence[float] | None = None,
) -> Path:
    """Fit the objective to data of poor coverage at every value of its tuned hyperparameter.

    Every fit starts from the reference, as training does: where there are several minima it ends in
    one near it. ``values`` defaults to `VALUES` of the searched grid; an objective without a tuned
    hyperparameter, or with a fixed one, is one point.

    Raises:
        UserError: the target is too close to uniform for this coverage coefficient.
    """
    world, name = with_coverage(subject.instance, coefficient), subject.settings.searched
    along = [subject.defaults[name]] if name else [None]
    if name is not None:
        along = list(values) if values is not None else _thinned(subject)
    data = pooled([draw(world, n, subject.seed, range(data_sets))] * len(along))
    task = table_task(world, data, subject.settings)
    search = Search(subject.objective, [task])
    hyper: dict[str, float | Tensor] = {**subject.defaults}
    if name is not None:
        hyper[name] = torch.tensor(along, dtype=torch.float64).repeat_interleave(data_sets)
    (fit,) = search.fit(search.full(hyper), search.references(), certify=False)
    return measured(world, along, fit.logp, task.reward_fit.reward)


def measured(world: Instance, along: Sequence[float | None], logp: Tensor, learned: Tensor) -> Path:
    """The path of fits, one value of the tuned hyperparameter after the other.

    Args:
        world: where they are measured.
        along: the values, P; None where one point is all there is.
        logp: log π of the fits, shape (P·S, X, V), all data sets of the first value first.
        learned: the reward that each fit's data set taught, same shape.
    """
    table = {key: value.numpy().reshape(len(along), -1) for key, value in _measure(world, logp, learned).items()}
    turned = slice(None, None, -1) if table["drift"][0].mean() > table["drift"][-1].mean() else slice(None)
    told = None if along[0] is None else np.array(along, dtype=float)[turned]
    advantage = world.context_weights @ ((world.target - world.reference) * world.reward()).sum(1)
    return Path(world, told, **{key: value[turned] for key, value in table.items()}, target=float(advantage))


def _thinned(subject: Subject) -> list[float]:
    assert subject.objective.tuned is not None
    whole = grid(subject.objective.tuned)
    return [whole[k] for k in np.unique(np.linspace(0, len(whole) - 1, VALUES).round().astype(int))]


def _measure(world: Instance, logp: Tensor, learned: Tensor) -> dict[str, Tensor]:
    """Drift, both advantages and the forward KL of every fit, shape (fits,)."""
    reference, weights = torch.from_numpy(world.reference), torch.from_numpy(world.context_weights)

    def advantage(reward: Tensor) -> Tensor:
        return (((logp.exp() - reference) * reward).sum(-1) * weights).sum(-1)

    return {
        "drift": divergences.reverse_kl(reference.log(), logp, weights),
        "gold": advantage(torch.from_numpy(world.reward())),
        "proxy": advantage(learned),
        "forward_kl": divergences.forward_kl(torch.from_numpy(np.log(world.target)), logp, weights),
    }


@dataclass(frozen=True)
class Turn:
    """Where a score is best along a path, and what is lost from there to the end.

    The point is chosen on every other data set and the loss measured on the rest, so that the
    choice does not flatter the loss.

    Attributes:
        best: index of the point.
        end: index of the end of the path.
        loss: mean paired difference, best minus end, with its 95% interval.
    """

    best: int
    end: int
    loss: Interval

    @property
    def turns(self) -> bool | None:
        """Whether the score falls after its best point; None if the data do not tell."""
        if self.loss.low > 0:
            return True
        return False if self.best == self.end or self.loss.high <= 0 else None


def turn(path: Path, score: Array) -> Turn:
    """The turn of a score (larger is better) of shape (P, S)."""
    best = int(score[: path.end + 1, ::2].mean(1).argmax())
    lost = (score[best] - score[path.end])[1::2]
    return Turn(best, path.end, mean(lost))


def section(subject: Subject) -> Section:
    """Gold and proxy reward along the path of the tuned hyperparameter."""
    title = "Does a longer pursuit of a poorly learned reward hurt?"
    if subject.limit.finite is False:
        why = "it has no finite population minimiser: where a fit ends up is the ridge's doing"
        return Section("over-optimisation", title, [_absent(id, "no minimiser", why) for id in QUESTIONS])
    if float(subject.limit.fit.gradient_norm[0]) > SETTLED:
        why = "the solver does not settle on its minimiser, as at a kink: where a fit ends up is the solver's doing"
        return Section("over-optimisation", title, [_absent(id, "not decided", why) for id in QUESTIONS])
    try:
        path = paths(subject)
    except UserError:
        why = "the target is so close to uniform that no tilt of the data leaves it uncovered"
        return Section("over-optimisation", title, [_absent(id, "does not apply", why) for id in QUESTIONS])
    if path.values is None:
        fixed = subject.objective.tuned is not None
        why = "its tuned hyperparameter is fixed" if fixed else "it has no tuned hyperparameter"
        absent = [_absent(id, "does not apply", f"{why}: one point is no path") for id in ("gold", "forward_kl")]
        return Section("over-optimisation", title, [absent[0], _gap(subject, path), absent[1]])
    findings = [_gold(subject, path), _gap(subject, path), _forward_kl(subject, path)]
    return Section("over-optimisation", title, findings, [], [_rewards_panel(path), _distance_panel(path)])


def _absent(id: str, verdict: str, why: str) -> Finding:
    basis = NUMERICAL if verdict == "not decided" else EXACT
    return Finding(f"over-optimisation.{id}", QUESTIONS[id], verdict, why, "", basis)


def _finding(subject: Subject, id: str, verdict: str, answer: str, **numbers: Any) -> Finding:
    world = f"{subject.describe(subject.instance)}; μ ∝ (π*)^(1−t) with C = {COEFFICIENT:g}, n = {N:,}, {DATA_SETS} data sets"
    return Finding(f"over-optimisation.{id}", QUESTIONS[id], verdict, answer, world, SAMPLED, numbers)


def _at(subject: Subject, path: Path, k: int) -> str:
    """A point of the path in words."""
    assert path.values is not None
    name = str(subject.settings.searched).rstrip("_")
    return f"KL(π‖π_ref) = {nats(path.drift[k].mean())} ({name} = {path.values[k]:.3g})"


def _gold(subject: Subject, path: Path) -> Finding:
    found = turn(path, path.gold)
    rise = mean((path.proxy[path.end] - path.proxy[found.best])[1::2])
    answer = f"E_π[r*] over π_ref's is best at {_at(subject, path, found.best)}, {nats(path.gold[found.best].mean())} nats"
    if found.best == path.end:
        verdict, answer = "no", f"{answer}, the end of the path"
    else:
        answer += f"; from there to {_at(subject, path, path.end)} it changes by {within(_minus(found.loss))} while the learned "
        answer += f"reward changes by {within(rise)}"
        verdict = "not decided" if found.turns is None else _both(rise) if found.turns else "no"
    numbers = {
        "peak_drift": float(path.drift[found.best].mean()),
        "peak_gold": float(path.gold[found.best].mean()),
        "end_drift": float(path.drift[path.end].mean()),
        "loss": found.loss.value,
        "interval": [found.loss.low, found.loss.high],
        "proxy_rise": rise.value,
        "proxy_interval": [rise.low, rise.high],
    }
    return _finding(subject, "gold", verdict, answer, **numbers)


def _both(rise: Interval) -> str:
    """The verdict where the gold reward falls."""
    return "yes" if rise.low > 0 else "both fall" if rise.high < 0 else "gold falls"


def _minus(interval: Interval) -> Interval:
    return Interval(-interval.value, -interval.high, -interval.low)


def _gap(subject: Subject, path: Path) -> Finding:
    gap = mean(path.proxy[path.end] - path.gold[path.end])
    verdict = "overrates" if gap.low > ZERO else "underrates" if gap.high < -ZERO else "none seen"
    answer = f"the learned reward gives it {nats(path.proxy[path.end].mean())} nats over π_ref, the true one "
    answer += f"{nats(path.gold[path.end].mean())} (π* itself {nats(path.target)}): a gap of {within(gap)} at "
    answer += _at(subject, path, path.end) if path.values is not None else f"KL(π‖π_ref) = {path.drift[0].mean():.3g}"
    return _finding(subject, "gap", verdict, answer, gap=gap.value, interval=[gap.low, gap.high], target=path.target)


def _forward_kl(subject: Subject, path: Path) -> Finding:
    found = turn(path, -path.forward_kl)
    verdict = {True: "yes", False: "no", None: "not decided"}[found.turns]
    best, last = path.forward_kl[found.best].mean(), path.forward_kl[path.end].mean()
    answer = f"KL(π*‖π) is least at {_at(subject, path, found.best)}, {nats(best)} nats"
    if found.best == path.end:
        answer += ", the end of the path"
    else:
        answer += f"; at {_at(subject, path, path.end)} it is {nats(last)}, more by {within(found.loss)}"
    numbers = {
        "best": float(best),
        "best_drift": float(path.drift[found.best].mean()),
        "end": float(last),
        "loss": found.loss.value,
        "interval": [found.loss.low, found.loss.high],
    }
    return _finding(subject, "forward_kl", verdict, answer, **numbers)


def _line(label: str, path: Path, quantity: Array) -> Line:
    outwards = slice(path.end + 1)
    means = [mean(row) for row in quantity[outwards]]
    x = path.drift[outwards].mean(1).tolist()
    return Line(label, x, [m.value for m in means], [m.low for m in means], [m.high for m in means])


def _rewards_panel(path: Path) -> Panel:
    lines = [_line("learned reward", path, path.proxy), _line("true reward", path, path.gold)]
    best = int(path.gold[: path.end + 1].mean(1).argmax())
    takeaway = f"The true reward is best at KL(π‖π_ref) = {path.drift[best].mean():.2g} nats, {path.gold[best].mean():.2g}; at "
    takeaway += f"{path.drift[path.end].mean():.2g} it is {path.gold[path.end].mean():.2g} and the learned reward "
    takeaway += f"{path.proxy[path.end].mean():.2g}. Bands: 95% of the mean."
    axes = ("KL(π‖π_ref) (nats)", "advantage over π_ref (nats)")
    return Panel("True and learned reward", *axes, lines, levels=[("π*", path.target)], takeaway=takeaway)


def _distance_panel(path: Path) -> Panel:
    best = int(path.forward_kl[: path.end + 1].mean(1).argmin())
    takeaway = f"Nearest to π* at KL(π‖π_ref) = {path.drift[best].mean():.2g} nats: {path.forward_kl[best].mean():.2g}; "
    takeaway += f"at the end {path.forward_kl[path.end].mean():.2g}. Bands: 95% of the mean."
    axes = ("KL(π‖π_ref) (nats)", "KL(π*‖π) (nats)")
    return Panel("Distance to the target", *axes, [_line("KL(π*‖π)", path, path.forward_kl)], y_log=True, takeaway=takeaway)

"""Likelihood displacement: log π(y_w) falls while the loss falls."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from theory.audit.subject import Subject
from theory.audit.weights import TwoLogps, Weights, pair_loss, placed, typical_reward_margin, weights
from theory.sampling import WinCounts
from theory.solvers.problem import Problem
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World

# A rate of change of log π_w (as a share of the two forces that make it up) this far above 0 is not rounding.
FALLS = 1e-6
# An example should show more than that.
CLEARLY = 1e-2
# Logits of winner and loser over every other response: a grid of this half-width and number of points.
LOGITS, POINTS = 30.0, 121
# Reference log-probabilities of winner and loser that are tried where the loss reads them, nats.
REFERENCES = [(a, b) for a in (-1.0, -10.0, -100.0) for b in (-1.0, -10.0, -100.0)]
# A step is halved so many times at most.
HALVINGS = 40
# Other responses that share the rest of the mass equally.
OTHERS = (1, 30)


@dataclass(frozen=True)
class Step:
    """One small step of gradient descent, taken.

    Attributes:
        size: learning rate.
        loss, winner, loser: ℓ, log π_w and log π_l before and after, nats.
    """

    size: float
    loss: tuple[float, float]
    winner: tuple[float, float]
    loser: tuple[float, float]

    @property
    def displaces(self) -> bool:
        """Whether the winner fell while the loss fell."""
        return self.loss[1] < self.loss[0] and self.winner[1] < self.winner[0]


@dataclass(frozen=True)
class Example:
    """A log-linear policy log π ∝ φ·w of which responses 0 and 1 are winner and loser.

    Attributes:
        features: φ, one row a response.
        parameters: w.
        probabilities: π.
        reference: log π_ref of winner and loser.
        reward_margin: Δr̂.
        weights: ∂ℓ/∂log π_w and ∂ℓ/∂log π_l.
        kernel: K_ww and K_wl, K_ij = ⟨∇_w log π_i, ∇_w log π_j⟩.
        step: a step of gradient descent on ℓ.
    """

    features: list[list[float]]
    parameters: list[float]
    probabilities: list[float]
    reference: tuple[float, float]
    reward_margin: float
    weights: tuple[float, float]
    kernel: tuple[float, float]
    step: Step


def descend(loss: TwoLogps, features: Tensor, parameters: Tensor) -> Step:
    """Take a gradient step short enough that the loss falls and log π_w moves as its rate says."""
    start = parameters.detach().requires_grad_()

    def state(w: Tensor) -> tuple[Tensor, Tensor]:
        logp = torch.log_softmax(features @ w, -1)
        return loss(logp[0:1], logp[1:2]).sum(), logp

    value, logp = state(start)
    (gradient,) = torch.autograd.grad(value, start, retain_graph=True)
    (ascent,) = torch.autograd.grad(logp[0], start)
    before, rises = [value.item(), *logp[:2].tolist()], bool(ascent @ gradient < 0)
    size = 0.1 / max(float((features @ gradient).abs().max()), 1e-300)
    for _ in range(HALVINGS):
        later, moved = state(parameters - size * gradient)
        after = [later.item(), *moved[:2].tolist()]
        if after[0] < before[0] and (after[1] > before[1]) == rises:
            break
        size /= 2
    return Step(size, *zip(before, after, strict=True))


def table_kernel(winner: Tensor, loser: Tensor, rest: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """(K_ww, K_wl) of a softmax table: 1 − 2π_w + ‖π‖² and ‖π‖² − π_w − π_l, without cancellation.

    Args:
        winner, loser: π_w and π_l.
        rest, squares: Σ π and Σ π² over every other response.
    """
    return (loser + rest) ** 2 + loser**2 + squares, squares - winner * (loser + rest) - loser * (winner + rest)


def excess(pull: Weights, kernel: tuple[Tensor, Tensor]) -> Tensor:
    """−d log π_w/dt of gradient flow, g_w K_ww + g_l K_wl, over the sum of its two parts' magnitudes: in [−1, 1]."""
    parts = pull.winner * kernel[0], pull.loser * kernel[1]
    size = parts[0].abs() + parts[1].abs()
    return torch.where((size > 0) & torch.isfinite(size), (parts[0] + parts[1]) / size.clamp_min(1e-300), torch.zeros_like(size))


@dataclass(frozen=True)
class TableSearch:
    """Gradient flow of one pair's loss on a softmax table, over the simplex.

    Attributes:
        largest: the largest `excess` found where the loss does not itself push the winner down, ∂ℓ/∂log π_w ≤ 0.
        example: the mildest table on which the winner falls there, with the step taken; None if none was found.
        signed: 0 ≤ ∂ℓ/∂log π_l ≤ −∂ℓ/∂log π_w everywhere on the grid; that forbids a fall at any π, since K_wl < K_ww.
        tried: tables.
    """

    largest: float
    example: Example | None
    signed: bool
    tried: int


@dataclass(frozen=True)
class _Point:
    """A table with logits (a, b) of winner and loser, the others sharing the rest, and its `excess`."""

    excess: float
    a: float
    b: float
    others: int
    reference: tuple[float, float]


def search_table(subject: Subject) -> TableSearch:
    """Look for a table on which the winner falls: a dense grid of the simplex, then Nelder–Mead from its best point.

    A fall needs g_w K_ww + g_l K_wl > 0. The other responses enter through their mass and its sum of
    squares alone, which lies between that of one response and that of many.
    """
    references = REFERENCES if subject.objective.reads("ref_logp") else [(-1.0, -1.0)]
    axes = torch.meshgrid(*[torch.linspace(-LOGITS, LOGITS, POINTS, dtype=torch.float64)] * 2, indexing="ij")
    a, b = (axis.flatten() for axis in axes)
    margin = typical_reward_margin(subject.instance)
    falls: list[_Point] = []
    best, signed = _Point(-math.inf, 0.0, 0.0, 1, references[0]), True
    for reference in references:
        pull = weights(pair_loss(subject, _constants(reference), margin), *_logp(a, b)[:2])
        tiny = 1e-12 * pull.strength
        signed &= bool(((pull.winner <= tiny) & (pull.loser >= -tiny) & (pull.winner + pull.loser <= tiny)).all())
        for others in OTHERS:
            found = excess(pull, _kernel(a, b, others))
            kept = torch.where(pull.winner > tiny, -torch.inf, found)
            k = int(kept.argmax())
            best = max(best, _Point(float(kept[k]), float(a[k]), float(b[k]), others, reference), key=lambda p: p.excess)
            falls += _mildest(kept > CLEARLY, a, b, found, others, reference)
    if not falls and not signed:
        best = _polished(subject, best, margin)
    falls = falls or [best] * (best.excess > FALLS)
    largest = max([best.excess, *(p.excess for p in falls)])
    tried = len(references) * len(OTHERS) * len(a)
    return TableSearch(largest, _at(subject, falls, margin), signed, tried)


def _mildest(where: Tensor, a: Tensor, b: Tensor, found: Tensor, others: int, reference: tuple[float, float]) -> list[_Point]:
    """Of the grid points ``where`` holds, the one nearest to uniform; none if it holds nowhere."""
    if not bool(where.any()):
        return []
    k = int(torch.where(where, a.abs() + b.abs(), torch.inf).argmin())
    return [_Point(float(found[k]), float(a[k]), float(b[k]), others, reference)]


def _at(subject: Subject, points: list[_Point], margin: float) -> Example | None:
    """The mildest point whose step bears it out, written as a table: features eᵢ and the logits as parameters."""
    for point in sorted(points, key=lambda p: abs(p.a) + abs(p.b) - 0.01 * sum(p.reference) + 0.1 * p.others):
        shared = torch.full((point.others,), -math.log(point.others), dtype=torch.float64)
        logits = torch.cat([torch.tensor([point.a, point.b], dtype=torch.float64), shared])
        found = _example(subject, torch.eye(len(logits), dtype=torch.float64), logits, point.reference, margin)
        if found.step.displaces:
            return found
    return None


def _constants(values: tuple[float, float]) -> tuple[Tensor, Tensor]:
    first, second = (torch.tensor([v], dtype=torch.float64) for v in values)
    return first, second


def _logp(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log π_w, log π_l and the logarithm of all other mass, of logits (a, b, 0)."""
    return tuple(torch.log_softmax(torch.stack([a, b, torch.zeros_like(a)], -1), -1).unbind(-1))  # type: ignore[return-value]


def _kernel(a: Tensor, b: Tensor, others: int) -> tuple[Tensor, Tensor]:
    winner, loser, rest = (t.exp() for t in _logp(a, b))
    return table_kernel(winner, loser, rest, rest**2 / others)


def _polished(subject: Subject, best: _Point, margin: float) -> _Point:
    """The best grid point, improved."""
    loss = pair_loss(subject, _constants(best.reference), margin)

    def objective(x: np.ndarray) -> float:
        at = torch.tensor(np.clip(x, -LOGITS, LOGITS)[:, None], dtype=torch.float64)
        pull = weights(loss, *_logp(at[0], at[1])[:2])
        return -float(excess(pull, _kernel(at[0], at[1], best.others))) if float(pull.winner) <= 0 else 1.0

    found = minimize(objective, [best.a, best.b], method="Nelder-Mead", options={"maxfev": 200})
    a, b = np.clip(found.x, -LOGITS, LOGITS).tolist()
    return replace(best, excess=-float(found.fun), a=a, b=b)


def _example(subject: Subject, features: Tensor, parameters: Tensor, reference: tuple[float, float], margin: float) -> Example:
    loss = pair_loss(subject, _constants(reference), margin)
    logp = torch.log_softmax(features @ parameters, -1)
    pull = weights(loss, logp[0:1], logp[1:2])
    centred = features - logp.exp() @ features
    kernel = float(centred[0] @ centred[0]), float(centred[0] @ centred[1])
    return Example(
        features.tolist(),
        parameters.tolist(),
        logp.exp().tolist(),
        reference,
        margin,
        (float(pull.winner), float(pull.loser)),
        kernel,
        descend(loss, features, parameters),
    )


def shared_example(subject: Subject) -> Example | None:
    """Three responses with features in R² whose winner falls in a gradient step on their pair; None if ∂ℓ/∂log π_l is 0.

    The loser's features point along the winner's and are longer, K_wl > K_ww·|g_w|/|g_l| (against
    them where the loss raises the loser), so that the pull on the loser drags the winner with it.
    For a margin loss this is K_wl > K_ww. Source: Razin et al. 2024 for DPO; the condition in (g_w, g_l) is ours.
    """
    margin, reference = typical_reward_margin(subject.instance), (-math.log(3), -math.log(3))
    loss = pair_loss(subject, _constants(reference), margin)
    for a, b in sorted(product((0.0, 1.0, -1.0, 3.0, -3.0), repeat=2), key=lambda at: abs(at[0]) + abs(at[1])):
        logits = torch.tensor([a, b, 0.0], dtype=torch.float64)
        logp = torch.log_softmax(logits, -1)
        pull = weights(loss, logp[0:1], logp[1:2])
        if not abs(float(pull.loser)) > 1e-6 * abs(float(pull.winner)):
            continue
        for size in 2.0 ** np.arange(1, 22):
            found = _example(subject, *_drag(logits, math.copysign(size, float(pull.loser))), reference, margin)
            g, k = found.weights, found.kernel
            if g[0] * k[0] + g[1] * k[1] > 0.1 * (abs(g[0] * k[0]) + abs(g[1] * k[1])) and found.step.displaces:
                return found
    return None


def _drag(logits: Tensor, longer: float) -> tuple[Tensor, Tensor]:
    """Features (1, ·), (longer, ·) and a third that about centres them, and the parameters that give ``logits``."""
    p = torch.softmax(logits, -1)
    first = torch.tensor([1.0, longer, -round(float((p[0] + longer * p[1]) / p[2]), 4)], dtype=torch.float64)
    uniform = not bool(logits.any())
    second = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64) if uniform else logits
    return torch.stack([first, second], -1), torch.tensor([0.0, 0.0 if uniform else 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class Crowding:
    """Two disjoint pairs on one table, y1 ≻ y2 once and y3 ≻ y4 ``times`` times: y1 never lost, and falls.

    Attributes:
        times: labels of the second pair.
        start: π = π_ref before the step.
        step: of gradient descent in the logits on the whole objective, its functionals included.
    """

    times: int
    start: list[float]
    step: Step


def crowding_example(subject: Subject) -> Crowding | None:
    """Finite data whose gradient lowers a response that never lost; None if none of the cases tried does."""
    for times, lead in product((1, 10, 100), (0.0, 0.3, 1.0, 3.0, 5.0)):
        log_ref = torch.log_softmax(torch.tensor([0.0, 0.0, lead, 0.0], dtype=torch.float64), -1)
        problem = _two_pairs(subject, times, log_ref)
        value, gradient, _ = problem.evaluate(problem.start(log_ref.reshape(1, 1, 4)))
        pull, p = gradient[0, :4], log_ref.exp()
        rate = -float(pull[0] - p @ pull)
        if rate < -FALLS * float(pull.abs().max()):
            step = _step_whole(problem, log_ref, gradient, float(value))
            if step.displaces:
                return Crowding(times, p.tolist(), step)
    return None


def _two_pairs(subject: Subject, times: int, log_ref: Tensor) -> Problem:
    wins = np.zeros((1, 1, 4, 4))
    wins[0, 0, 0, 1], wins[0, 0, 2, 3] = 1, times
    margin = typical_reward_margin(subject.instance)
    reward = torch.tensor([[margin, 0.0, margin, 0.0]], dtype=torch.float64)
    options = replace(subject.options, oracle="true", ridge=0.0)
    task = TableTask(
        WinCounts(wins, wins.sum((-1, -2)), times + 1.0), World(log_ref[None], subject.instance.gamma, reward), options
    )
    hyper = {name: torch.tensor([value], dtype=torch.float64) for name, value in subject.defaults.items()}
    return task.problem(subject.objective, hyper, task.rewards(subject.objective)[0])


def _step_whole(problem: Problem, logits: Tensor, gradient: Tensor, value: float) -> Step:
    theta = problem.start(logits.reshape(1, 1, 4))
    moved = torch.zeros_like(gradient)
    moved[:, :4] = gradient[:, :4]  # a reward head of the student's own stays where it is
    size = 0.1 / float(moved.abs().max())
    for _ in range(HALVINGS):
        later = theta - size * moved
        after = float(problem.evaluate(later)[0])
        logp = torch.log_softmax(later[0, :4], -1)
        if after < value and logp[0] < logits[0]:
            break
        size /= 2
    return Step(size, (value, after), (float(logits[0]), float(logp[0])), (float(logits[1]), float(logp[1])))


def descent_direction(margin: Tensor, level: Tensor, found: Weights) -> tuple[float, float] | None:
    """(log π_w, log π_l) from which the loss falls along some direction in which both fall; None if there is none.

    There is one exactly where ∂ℓ/∂log π_l > 0 or ∂ℓ/∂log π_w > 0: sink that one fast and the other
    slowly; the mass goes to the other responses.
    """
    pays = torch.maximum(found.winner, found.loser) > 0
    if not bool(pays.any()):
        return None
    nearest = int(torch.where(pays, margin.abs() + level, torch.inf).argmin())
    winner, loser = placed(margin[nearest], level[nearest])
    return float(winner), float(loser)

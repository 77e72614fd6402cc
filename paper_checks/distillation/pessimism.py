"""Pessimism over a set of rewards, and the penalty KL(π_ref‖π) that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from paper_checks.claims import Finding, Verdict, claim
from paper_checks.distillation import tables
from theory import objectives
from theory.instances.tabular import Array
from theory.sampling import WinCounts
from theory.solvers.closed import closed_form
from theory.solvers.options import Options
from theory.solvers.selection import Search
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World
from theory.statistics import divergences

# Two values closer than this are the same up to the tolerance of scipy's solver.
EQUAL = 1e-6


def optimum(log_ref: Tensor, reward: Tensor, beta: float) -> Tensor:
    """log of RLHF's optimum for one reward; (V,) tensors."""
    hyper = {"beta": torch.tensor([beta], dtype=torch.float64)}
    return closed_form(objectives.get("rlhf"), 1.0, hyper, log_ref[None, None], reward[None, None], None)[0, 0]


def gain(policy: Tensor, reward: Tensor, log_ref: Tensor, beta: float) -> float:
    """E_π[r] − E_ref[r] − β KL(π‖π_ref), what a policy gains on π_ref if the reward is r; (V,) tensors, nats."""
    return float(((policy.exp() - log_ref.exp()) * reward).sum() - beta * divergences.kl(policy, log_ref))


def distance(log_ref: Tensor, reward: Tensor, beta: float) -> float:
    """β KL(π_ref‖π_r), which is max over π of `gain` at r: β log E_ref exp((r − E_ref r)/β), nats."""
    return beta * float(divergences.kl(log_ref, optimum(log_ref, reward, beta)))


def project(log_ref: Tensor, rewards: Tensor, beta: float) -> Array:
    """Weights w of the hull's reward Σ wᵢ rᵢ whose optimum is nearest to π_ref in KL(π_ref‖·).

    Args:
        rewards: the hull's corners, shape (k, V).

    Returns:
        Shape (k,).
    """
    corners = rewards.numpy()

    def objective(w: Any) -> tuple[float, Array]:
        reward = torch.from_numpy(w @ corners)
        slope = corners @ (optimum(log_ref, reward, beta).exp() - log_ref.exp()).numpy()
        return distance(log_ref, reward, beta), slope

    k = len(corners)
    whole = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)}
    found, _ = _least(objective, np.full(k, 1 / k), whole, bounds=[(0, 1)] * k)
    weights = np.clip(found, 0, None)
    return weights / weights.sum()


def project_ball(log_ref: Tensor, centre: Tensor, shape: Tensor, beta: float) -> Tensor:
    """The reward of {r̂ + A u, ‖u‖ ≤ 1} whose optimum is nearest to π_ref in KL(π_ref‖·); ``shape`` is A, (V, V)."""
    a = shape.numpy()

    def objective(u: Any) -> tuple[float, Array]:
        reward = centre + shape @ torch.from_numpy(u)
        return distance(log_ref, reward, beta), a.T @ (optimum(log_ref, reward, beta).exp() - log_ref.exp()).numpy()

    inside = {"type": "ineq", "fun": lambda u: 1 - u @ u, "jac": lambda u: -2 * u}
    found, _ = _least(objective, np.zeros(len(a)), inside)
    return centre + shape @ torch.from_numpy(found / max(1.0, float(np.linalg.norm(found))))


def _least(function: Callable[[Any], Any], start: Any, within: Any, bounds: Any = None) -> tuple[Array, float]:
    """Where scipy's constrained solver ends, and the value there; ``function`` gives value and gradient."""
    options: Any = {"ftol": 1e-15, "maxiter": 1000}
    found = minimize(function, start, method="SLSQP", jac=True, bounds=bounds, constraints=[within], options=options)
    return np.asarray(found.x), float(found.fun)


@claim(
    "distillation-pessimistic-projection",
    statement="Pessimistic distillation (restored)",
    says="The policy with the best worst-case gain over a set S of rewards is, among the optima of rewards in S, the one "
    "nearest to π_ref in KL(π_ref‖π).",
    assumes="a set of finite rewards; whether the theorem asks for a convex one is lost from our text.",
    predicts="its worst-case gain over S equals β·min over r in S of KL(π_ref‖π_r), an upper bound for every policy.",
    tested="20 random tables (6 responses) with the hull of 3 rewards, an ellipsoid of rewards, and 3 rewards alone; each "
    "optimum certified by the gap between the two sides, which bounds its error for any solver",
    expects="holds",
)
def pessimistic_optimum_is_a_projection() -> Finding:
    """The gap of the projected policy for convex sets, and for finite ones."""
    beta, seeds = 0.5, range(20)
    instances = [_three_rewards(seed) for seed in seeds]
    convex = {
        "hull_of_three": max(_hull_gap(log_ref, rewards, beta) for log_ref, rewards in instances),
        "ellipsoid": max(_ball_gap(log_ref, rewards[0], beta) for log_ref, rewards in instances),
    }
    finite = [_finite_shortfall(log_ref, rewards, beta) for log_ref, rewards in instances]
    evidence = {
        "instances": "seeds 0–19: π_ref = softmax(N(0, 1)), rewards N(0, 1); β = 0.5 (ours)",
        "convex_sets_equal_within": EQUAL,
        "convex_sets_equal": {name: gap < EQUAL for name, gap in convex.items()},
        "finite_sets_where_the_projection_is_not_the_pessimistic_optimum": sum(s > EQUAL for s in finite),
        "mean_shortfall": float(np.mean(finite)),
        "identity": "max over π of E_π[r] − E_ref[r] − β KL(π‖π_ref) is β KL(π_ref‖π_r)",
    }
    if max(convex.values()) >= EQUAL:
        return Finding(Verdict.FAILS, evidence, counterexample=convex)
    if max(finite) < EQUAL:
        return Finding(Verdict.HOLDS, evidence)
    needed = "S is convex (for a finite ensemble: the policies of mixtures of its rewards are allowed too)"
    return Finding(Verdict.HOLDS_IF, evidence, needed, counterexample=_opposed())


def _three_rewards(seed: int) -> tuple[Tensor, Tensor]:
    return tables.random_policy(seed, 1, 6)[0], torch.cat([tables.random_reward(3 * seed + i, 1, 6) for i in range(3)])


def _hull_gap(log_ref: Tensor, rewards: Tensor, beta: float) -> float:
    """Upper bound minus guaranteed gain of the hull's projection; a corner is the worst case of a linear function."""
    mixed = torch.from_numpy(project(log_ref, rewards, beta)) @ rewards
    policy = optimum(log_ref, mixed, beta)
    return distance(log_ref, mixed, beta) - min(gain(policy, reward, log_ref, beta) for reward in rewards)


def _ball_gap(log_ref: Tensor, centre: Tensor, beta: float) -> float:
    """The same for an ellipsoid, on which a linear function's least value is known."""
    shape = torch.diag(torch.linspace(0.2, 1.0, len(centre), dtype=torch.float64))
    worst = project_ball(log_ref, centre, shape, beta)
    policy = optimum(log_ref, worst, beta)
    direction = shape.T @ (policy.exp() - log_ref.exp())
    guaranteed = gain(policy, centre, log_ref, beta) - float(direction.norm())
    return distance(log_ref, worst, beta) - guaranteed


def _finite_shortfall(log_ref: Tensor, rewards: Tensor, beta: float) -> float:
    """How much less the nearest of the rewards' own optima guarantees than the best policy does, nats."""
    nearest = min(rewards, key=lambda reward: distance(log_ref, reward, beta))
    policy = optimum(log_ref, nearest, beta)
    best = distance(log_ref, torch.from_numpy(project(log_ref, rewards, beta)) @ rewards, beta)
    return best - min(gain(policy, reward, log_ref, beta) for reward in rewards)


def _opposed() -> dict[str, Any]:
    """Two rewards that disagree about two responses: π_ref guarantees 0, either optimum less."""
    log_ref = torch.full((2,), 0.5, dtype=torch.float64).log()
    rewards = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    nearest = optimum(log_ref, rewards[0], 1.0)
    return {
        "instance": "2 responses, uniform π_ref, β = 1, S = {(1, 0), (0, 2)}",
        "beta_kl_ref_to_each_optimum": [distance(log_ref, reward, 1.0) for reward in rewards],
        "projection_onto_the_two": nearest.exp().tolist(),
        "its_worst_case_gain": min(gain(nearest, reward, log_ref, 1.0) for reward in rewards),
        "pessimistic_optimum": [0.5, 0.5],
        "its_worst_case_gain_over_S": min(gain(log_ref, reward, log_ref, 1.0) for reward in rewards),
        "upper_bound": distance(log_ref, torch.from_numpy(project(log_ref, rewards, 1.0)) @ rewards, 1.0),
    }


@claim(
    "distillation-penalty-is-projection",
    statement="p-DPO, dp-DPO and e-DPO as Lagrangians (restored)",
    says="Penalising the loss with λ·KL(π_ref‖π) is the pessimistic problem in another form: as λ varies, the solutions are the "
    "policies nearest to π_ref among those whose loss is below a level.",
    assumes="λ > 0; the loss is that of one reward, or of the best of an ensemble.",
    predicts="at every λ no policy with as small a loss is nearer to π_ref, and the policy's own reward is the worst one at "
    "that loss; every level between the extremes is reached.",
    tested="p-DPO and dp-DPO at 3 values of λ on a random table against scipy's constrained solution; e-DPO's path over 61 "
    "values of λ with two given rewards",
    expects="holds",
)
def penalty_traces_the_projections() -> Finding:
    """Constrained problems solved directly against the penalised ones, and the levels that e-DPO's path leaves out."""
    rows = [_constrained(name, weight) for name in ("p-dpo", "dp-dpo") for weight in (1e-1, 1e-2, 1e-3)]
    agree = all(abs(row["nearest_by_scipy"] - row["kl_ref"]) < 1e-5 for row in rows)
    agree &= all(abs(row["worst_reward_by_scipy"] - row["worst_reward"]) < 1e-5 for row in rows)
    gap = _skipped_levels()
    evidence = {"instance": "5 responses, all pairs labelled both ways in a 3:1 ratio; seed 0; β = 1 (ours)", "at_lambda": rows}
    if not agree:
        return Finding(Verdict.FAILS, evidence, counterexample={"at_lambda": rows})
    if gap is None:
        return Finding(Verdict.HOLDS, evidence)
    needed = "the loss is convex in the implicit reward, as it is with one reward (p-DPO, dp-DPO); e-DPO's least member is not"
    return Finding(Verdict.HOLDS_IF, evidence, needed, counterexample=gap)


def _labelled(vocab: int) -> WinCounts:
    """Every pair labelled four times, three times for the lower-numbered response."""
    wins = np.triu(np.full((vocab, vocab), 3.0), 1)
    wins = (wins + (wins > 0).T * 1.0)[None, None]
    return WinCounts(wins, wins.sum((-1, -2)), float(wins.sum()))


def _constrained(name: str, weight: float) -> dict[str, Any]:
    """One λ: the penalised solution, the nearest policy at its loss, and the worst reward at its loss."""
    beta, vocab = 1.0, 5
    log_ref, reward = tables.random_policy(0, 1, vocab), tables.random_reward(0, 1, vocab)
    task = tables.task_on(_labelled(vocab), log_ref, reward)
    policy = tables.minimise(task, name, beta=beta, lambda_=weight).fits[0].logp[0, 0]
    loss = _loss_of(task, name, beta)
    level, reference = loss(policy.numpy())[0], log_ref[0]
    within = {"type": "ineq", "fun": lambda z: level - loss(z)[0], "jac": lambda z: -loss(z)[1]}

    def to_reference(logits: Any) -> tuple[float, Array]:
        logp = torch.log_softmax(torch.from_numpy(logits), -1)
        return float(divergences.kl(reference, logp)), (logp.exp() - reference.exp()).numpy()

    direction = beta * (policy.exp() - reference.exp()).numpy()

    def expected_reward(logits: Any) -> tuple[float, Array]:
        return float(direction @ (logits - reference.numpy())), direction

    # The problems are convex, so that any start will do; this one is not the answer already.
    start = policy.numpy() + 0.3 * np.random.default_rng(0).standard_normal(vocab)
    nearest, worst = (_least(f, start, within)[1] for f in (to_reference, expected_reward))
    return {
        "objective": name,
        "lambda": weight,
        "loss": level,
        "kl_ref": to_reference(policy.numpy())[0],
        "nearest_by_scipy": nearest,
        "worst_reward": expected_reward(policy.numpy())[0],
        "worst_reward_by_scipy": worst,
    }


def _loss_of(task: TableTask, name: str, beta: float) -> Callable[[Any], tuple[float, Array]]:
    """The objective without its penalty, with gradient, as a function of the policy's logits (V,)."""
    about = objectives.get(name)
    hyper = {key: torch.tensor([v], dtype=torch.float64) for key, v in about.resolve({"beta": beta, "lambda_": 0.0}).items()}
    problem = task.problem(about, hyper, task.rewards(about)[0])

    def loss(logits: Any) -> tuple[float, Array]:
        value, gradient, _ = problem.evaluate(torch.from_numpy(np.asarray(logits, dtype=np.float64))[None])
        return float(value), gradient[0].numpy()

    return loss


def _skipped_levels() -> dict[str, Any] | None:
    """Two rewards of which e-DPO prefers one at small λ and the other at large λ, jumping over the losses between.

    One raises a rare response (small loss at π_ref, far in KL), the other sinks it (the reverse).
    """
    reference = torch.tensor([0.1, 0.45, 0.45], dtype=torch.float64).log()
    first, second = (torch.tensor([[[a, 0.0, 0.0]]], dtype=torch.float64) for a in (4.0, -5.0))
    low, high = 1e-3, 1e2
    for _ in range(5):
        path = _PenaltyPath.of(reference, [first, second, second], np.geomspace(low, high, 31))
        jump = int(np.argmax(np.diff(path.loss)))
        low, high = float(path.weights[jump]), float(path.weights[jump + 1])
    if path.loss[jump + 1] - path.loss[jump] < EQUAL:
        return None
    sides = slice(jump, jump + 2)
    return {
        "instance": "π_ref = μ = (0.1, 0.45, 0.45), β = 1, rewards (4, 0, 0) and (−5, 0, 0)",
        "lambda_before_and_after": [low, high],
        "probability_of_the_first_response": path.first[sides].tolist(),
        "kl_ref": path.far[sides].tolist(),
        "losses_between_which_no_lambda_reaches_any": path.loss[sides].tolist(),
    }


@dataclass(frozen=True)
class _PenaltyPath:
    """e-DPO's solutions over λ: the loss, KL(π_ref‖π) in nats, and the first response's probability; each of shape (K,)."""

    weights: Array
    loss: Array
    far: Array
    first: Array

    @classmethod
    def of(cls, log_ref: Tensor, members: list[Tensor], weights: Array) -> _PenaltyPath:
        """On one context with μ = π_ref, shape (V,), at K values of λ."""
        mu, k, vocab = log_ref.exp().numpy(), len(weights), len(log_ref)
        wins = np.broadcast_to(mu[:, None] * mu[None] * (1 - np.eye(vocab)), (k, 1, vocab, vocab)).copy()
        task = tables.EnsembleTask(WinCounts(wins, np.ones((k, 1)), np.inf), World(log_ref[None], 1.0), Options(ridge=0.0))
        task.members = [reward.expand(k, 1, vocab) for reward in members]
        search = Search(objectives.get("e-dpo"), [task])
        hyper = {"beta": torch.ones(k, dtype=torch.float64), "lambda_": torch.from_numpy(weights)}
        fit = search.fit(hyper, search.references())[0]
        far = divergences.kl(task.log_ref, fit.logp)[:, 0].numpy()
        return cls(weights, fit.value.numpy() - weights * far, far, fit.logp[:, 0, 0].exp().numpy())

"""What DPO minimises to, and what its distilled form does: degenerate policies, and RLHF's optimum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paper_checks.claims import Finding, Verdict, claim
from paper_checks.distillation import tables
from theory import objectives
from theory.instances.tabular import Array
from theory.objectives import Pair
from theory.sampling import WinCounts
from theory.solvers.tabletask import TableTask
from theory.statistics import divergences

# What rounding leaves of a number that is exactly zero.
ROUNDING = 1e-8
# Two policies whose log-probabilities differ by less are the same up to the solver's tolerance.
EQUAL = 1e-6


def dpo_loss(log_policy: Tensor, log_ref: Tensor, pairs: int, beta: float) -> float:
    """DPO's mean loss on `tables.disjoint_pairs`, nats; log-probabilities of shape (V,)."""
    sides = {"chosen": 2 * torch.arange(pairs), "rejected": 2 * torch.arange(pairs) + 1}
    inputs = {f"logp_{side}": log_policy[index] for side, index in sides.items()}
    inputs |= {f"ref_logp_{side}": log_ref[index] for side, index in sides.items()}
    loss = objectives.get("dpo").terms(Pair(**inputs), beta=beta).loss
    assert loss is not None
    return float(loss.mean())


def margin_at(loss: float, beta: float) -> float:
    """The log-ratio margin m with −log σ(βm) = loss, nats."""
    return -math.log(math.expm1(loss)) / beta


def largest_loser(loss: float, log_ref: Array, pairs: int, beta: float) -> float:
    """The largest π(y_l) of any policy whose DPO loss on K disjoint pairs is ``loss``: a supremum, not attained.

    One pair then carries the whole loss Kε, so that π_l/π_w = c = (ref_l/ref_w)(e^{Kε} − 1)^{1/β},
    and nothing keeps mass outside it: π_l = c/(1 + c).
    """
    log_odds = log_ref[1 : 2 * pairs : 2] - log_ref[0 : 2 * pairs : 2] + math.log(math.expm1(pairs * loss)) / beta
    return float(1 / (1 + np.exp(-log_odds.max())))


def shifted(log_ref: Tensor, role: Array, by: tuple[float, float, float]) -> Tensor:
    """π_ref with the logits of winners, losers and unseen responses moved by ``by``; log-probabilities (V,)."""
    return torch.log_softmax(log_ref + torch.from_numpy(np.asarray(by)[role.astype(int)]), -1)


@claim(
    "distillation-dpo-degenerate",
    statement="DPO's degenerate minimisers (restored; cited in drdo A.3 and unified §3, “Remark”)",
    says="DPO has degenerate minimisers: every one puts nothing on the dispreferred responses, some nothing on the preferred "
    "ones either but all on responses never seen.",
    assumes="disjoint pairs, each labelled one way; an unrestricted policy.",
    predicts="a sequence of policies with loss → 0, the infimum, and π(y_w) → 0; sup π(y_l) → 0 as the loss does.",
    tested="the sequence written down and its loss computed by the objective itself; the supremum of π(y_l) at a given loss "
    "in closed form; what gradient flow from π_ref reaches at the same loss, in closed form, on a table and on a "
    "log-linear class",
    expects="holds",
)
def dpo_has_degenerate_minimisers() -> Finding:
    """Three families of policies at the same loss ε: degenerate, gradient flow's, and flow in one feature."""
    pairs, unseen, beta, seed = 2, 1, 0.1, 1
    role = tables.roles(pairs, unseen)
    log_ref = tables.random_policy(seed, 1, len(role))[0]
    rows = [_at_loss(loss, log_ref, role, pairs, beta) for loss in (0.5, 0.1, 1e-2, 1e-4, 1e-8)]
    gone = tables.vanishing(tables.task_on(tables.disjoint_pairs(pairs, unseen), log_ref[None]), "dpo", beta=beta)[0, 0]
    last = rows[-1]
    holds = (
        all(abs(row["loss"][way] / row["target_loss"] - 1) < 1e-6 for row in rows for way in row["loss"])
        and last["degenerate"]["winners"] < ROUNDING
        and last["largest_loser"] < ROUNDING
        and bool((gone == (role == 1)).all())
    )
    evidence = {
        "design": "K = 2 disjoint pairs, each labelled once, 1 unseen response; π_ref = softmax(N(0, 1)), seed 1; β = 0.1 (ours)",
        "reference": tables.masses(log_ref, role),
        "at_loss": rows,
        "responses_that_vanish_in_every_minimising_sequence": np.flatnonzero(gone).tolist(),
        "losers": np.flatnonzero(role == 1).tolist(),
        "reading": "gradient flow on the table ends on the winners; in one feature with φ(unseen) > φ(y_w) > φ(y_l) every "
        "minimising sequence, flow included, ends on the unseen response",
    }
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else {"at_loss": rows})


def _at_loss(loss: float, log_ref: Tensor, role: Array, pairs: int, beta: float) -> dict[str, Any]:
    """The masses of three policies at one DPO loss; a margin m on every pair throughout.

    Degenerate: the winners' logits fall by m, the losers' by 2m. Flow from π_ref keeps the sum of a
    pair's logits and the unseen logits, so that it moves winners by m/2 and losers by −m/2. In one
    feature φ = (0, −1, 1) for (winner, loser, unseen) the parameter is m itself, from a uniform π_ref.
    """
    m = margin_at(loss, beta)
    uniform = torch.full_like(log_ref, -math.log(len(log_ref)))
    ways = {
        "degenerate": (log_ref, shifted(log_ref, role, (-m, -2 * m, 0.0))),
        "gradient_flow": (log_ref, shifted(log_ref, role, (m / 2, -m / 2, 0.0))),
        "one_feature": (uniform, shifted(uniform, role, (0.0, -m, m))),
    }
    found = {name: tables.masses(policy, role) for name, (_, policy) in ways.items()}
    losses = {name: dpo_loss(policy, reference, pairs, beta) for name, (reference, policy) in ways.items()}
    return {"target_loss": loss, "loss": losses, "largest_loser": largest_loser(loss, log_ref.numpy(), pairs, beta), **found}


@claim(
    "distillation-d-dpo-is-rlhf",
    statement="Reward distillation and RLHF (restored)",
    says="The policy that distils a reward (d-DPO) is the optimum of RLHF with that reward, π_ref·exp(r/β)/Z.",
    assumes="a reward that is finite everywhere; which pairs must be compared is lost from our text.",
    predicts="equal policies for every β on any connected set of compared pairs, even a tree.",
    tested="5 random instances (6 contexts, 6 responses) × 4 values of β, compared on all pairs and on a random spanning tree",
    expects="holds",
)
def distilled_policy_is_the_rlhf_optimum() -> Finding:
    """Equality on connected comparisons; two exact minimisers on a graph with two parts."""
    worst = {"all_pairs": 0.0, "spanning_tree": 0.0}
    for seed in range(5):
        log_ref, reward = tables.random_policy(seed, 6, 6), tables.random_reward(seed, 6, 6)
        for name, data in (("all_pairs", _complete(6, 6)), ("spanning_tree", _trees(seed, 6, 6))):
            task = tables.task_on(data, log_ref, reward)
            worst[name] = max(worst[name], *(_distance_from_rlhf(task, beta) for beta in (0.05, 0.2, 1.0, 5.0)))
    equal = {name: difference < EQUAL for name, difference in worst.items()}
    apart, restricted = _two_parts(), _restricted()
    evidence = {"log_probabilities_equal_within": EQUAL, "equal": equal, "restricted_class": restricted}
    if not all(equal.values()):
        return Finding(Verdict.FAILS, evidence, counterexample={"largest_log_probability_difference": worst})
    if apart["rlhf_shortfall"] < EQUAL and restricted["rlhf_shortfall"] < EQUAL:
        return Finding(Verdict.HOLDS, evidence)
    needed = "the compared pairs connect all responses of a context, and the policy class contains the optimum"
    return Finding(Verdict.HOLDS_IF, evidence, needed, counterexample=apart)


def _complete(contexts: int, vocab: int) -> WinCounts:
    wins = np.broadcast_to(1.0 - np.eye(vocab), (1, contexts, vocab, vocab)).copy()
    return WinCounts(wins, wins.sum((-1, -2)), float(wins.sum()))


def _trees(seed: int, contexts: int, vocab: int) -> WinCounts:
    """A random spanning tree in each context, every edge labelled once, one way."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(12,)))
    wins = np.zeros((1, contexts, vocab, vocab))
    for x in range(contexts):
        order = rng.permutation(vocab)
        for position in range(1, vocab):
            wins[0, x, order[position], order[rng.integers(position)]] = 1.0
    return WinCounts(wins, wins.sum((-1, -2)), float(wins.sum()))


def _distance_from_rlhf(task: TableTask, beta: float) -> float:
    """max |log π_d-DPO − log π_RLHF| over the table, nats."""
    distilled, best = (tables.minimise(task, name, beta=beta).fits[0].logp for name in ("d-dpo", "rlhf"))
    return float((distilled - best).abs().max())


def _two_parts() -> dict[str, Any]:
    """Responses {0, 1} and {2, 3} never compared: moving mass between them leaves the distillation loss at 0."""
    beta, seed, shift = 0.5, 0, 3.0
    wins = np.zeros((1, 1, 4, 4))
    wins[0, 0, 0, 1] = wins[0, 0, 2, 3] = 1.0
    task = tables.task_on(
        WinCounts(wins, np.full((1, 1), 2.0), 2.0), tables.random_policy(seed, 1, 4), tables.random_reward(seed, 1, 4)
    )
    best = tables.minimise(task, "rlhf", beta=beta).fits[0].logp
    moved = torch.log_softmax(best + torch.tensor([shift, shift, 0.0, 0.0], dtype=torch.float64), -1)
    return {
        "instance": "4 responses, pairs (0, 1) and (2, 3) alone; tables.random_policy and random_reward, seed 0; β = 0.5",
        "distillation_loss_at_the_rlhf_optimum": _value(task, "d-dpo", best, beta),
        "distillation_loss_elsewhere": _value(task, "d-dpo", moved, beta),
        "rlhf_optimum": best.exp().flatten().tolist(),
        "another_minimiser": moved.exp().flatten().tolist(),
        "total_variation": float(divergences.total_variation(best, moved)),
        "rlhf_shortfall": _value(task, "rlhf", moved, beta) - _value(task, "rlhf", best, beta),
    }


def _restricted() -> dict[str, Any]:
    """One feature beside log π_ref, the reward not in its span: least squares and RLHF choose different policies."""
    beta, seed, contexts, vocab = 0.5, 0, 3, 5
    log_ref, reward = tables.random_policy(seed, contexts, vocab), tables.random_reward(seed, contexts, vocab)
    features = torch.stack([log_ref, tables.random_reward(seed + 1, contexts, vocab)], -1)
    task = tables.task_on(_complete(contexts, vocab), log_ref, reward, features)
    distilled, best = (tables.minimise(task, name, beta=beta).fits[0].logp for name in ("d-dpo", "rlhf"))
    return {
        "instance": "3 contexts, 5 responses, log π ∝ w₀ log π_ref + w₁ φ, all pairs compared alike; seed 0; β = 0.5",
        "total_variation": float(divergences.total_variation(distilled, best).mean()),
        "rlhf_shortfall": _value(task, "rlhf", distilled, beta) - _value(task, "rlhf", best, beta),
    }


def _value(task: TableTask, name: str, logp: Tensor, beta: float) -> float:
    """An objective's value at a policy, nats."""
    (reward,) = task.rewards(objectives.get(name))
    return float(task.certify(objectives.get(name), {"beta": torch.tensor([beta], dtype=torch.float64)}, reward, logp).value)

"""Lemma 11 on every data set there is: exact probabilities, no sampling of data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from paper_checks.claims import Finding, Verdict, claim
from theory.instances.tabular import Array, expit

DELTAS = (0.5, 0.1, 0.05, 0.01, 0.001)
# Sums over a few thousand data sets are exact to this.
ROUNDING = 1e-12


@dataclass(frozen=True)
class World:
    """Every data set of n draws under μ and π*, as sequences, with its probability.

    Attributes:
        pairs: the possible draws (i, j), i ≠ j with i preferred, shape (Z, 2); (0, 0) stands for a tie.
        sets: indices into ``pairs``, shape (N, n).
        probability: of each data set, shape (N,).
    """

    pairs: np.ndarray
    sets: np.ndarray
    probability: Array

    @classmethod
    def of(cls, target: Array, data_policy: Array, n: int) -> World:
        """All data sets of n draws in one context; ``target`` and ``data_policy`` of shape (V,)."""
        size = len(target)
        pairs = np.array([(0, 0), *((i, j) for i in range(size) for j in range(size) if i != j)])
        chance = 2 * data_policy[pairs[:, 0]] * data_policy[pairs[:, 1]] * _label(np.log(target)[None], pairs)[0]
        chance[0] = (data_policy**2).sum()
        sets = np.array(list(product(range(len(pairs)), repeat=n)))
        return cls(pairs, sets, chance[sets].prod(1))

    def log_ratios(self, policies: Array) -> Array:
        """Σ log q_π/q_* over each data set, shape (K, N); ``policies`` (K, V), the target first."""
        logs = np.log(_label(np.log(policies), self.pairs))
        logs[:, 0] = 0
        return (logs - logs[:1])[:, self.sets].sum(-1)

    def excess(self, functional: Array) -> Array:
        """C(π, D) − log E_{D'}[exp C(π, D')], shape (K, N): what the lemma bounds by log(|Π|/δ)."""
        return functional - np.log((np.exp(functional) * self.probability).sum(1, keepdims=True))


def _label(log_policies: Array, pairs: np.ndarray) -> Array:
    return expit(log_policies[:, pairs[:, 0]] - log_policies[:, pairs[:, 1]])


def violation(world: World, excess: Array, threshold: float) -> float:
    """P(max_π excess > threshold): the probability that the worst estimator breaks a bound."""
    return float(world.probability[excess.max(0) > threshold].sum())


def disjoint_events(world: World, members: int, each: int) -> Array:
    """The functional for which the lemma cannot be better: member k bets everything on its own few data sets.

    Data sets of one probability are dealt out, ``each`` to a member; e^C is 1 there and 0 (e^−700) elsewhere.
    """
    values, counts = np.unique(world.probability.round(15), return_counts=True)
    alike = np.flatnonzero(world.probability.round(15) == values[counts.argmax()])
    functional = np.full((members, len(world.probability)), -700.0)
    for k in range(members):
        functional[k, alike[k * each : (k + 1) * each]] = 0.0
    return functional


def functionals(world: World, policies: Array, seed: int) -> dict[str, Array]:
    """Functionals C(π, D) of several kinds, each of shape (K, N)."""
    rng = np.random.default_rng(seed)
    ratios = world.log_ratios(policies)
    won = (world.sets > 0).mean(1)
    return {
        "half the log-likelihood ratio (Prop. 12)": ratios / 2,
        "3 log-likelihood ratios": 3 * ratios,
        "not additive: −(ratio − 5·share of informative draws)²": -((ratios - 5 * won) ** 2),
        "arbitrary: N(0, 1) a data set": rng.standard_normal(ratios.shape),
        "arbitrary: N(0, 10²) a data set": 10 * rng.standard_normal(ratios.shape),
    }


def _worlds() -> list[tuple[World, Array]]:
    """Worlds small enough to enumerate, each with a class of policies."""
    rng = np.random.default_rng(0)
    found = []
    for target, data, n in (([0.7, 0.3], [0.5, 0.5], 7), ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], 4)):
        others = rng.dirichlet(np.full(len(target), 3.0), 5)
        found.append((World.of(np.array(target), np.array(data), n), np.concatenate([[target], others])))
    return found


@claim(
    "unified-lemma-11",
    statement="Lemma 11",
    says="With probability 1 − δ, −log E_{D'}[exp C(π̂(D), D')] ≤ −C(π̂(D), D) + log(|Π|/δ), "
    "for any functional C and any estimator π̂ with values in Π.",
    assumes="D, D' are iid; Π is finite and holds π̂ (the formula is lost in the text; restored from Foster and Krishnamurthy)",
    predicts="E_D[max_π exp(C − log E exp C)] ≤ |Π|, and the worst estimator breaks the bound with probability at most δ.",
    tested="exactly: all 2,187 data sets of 7 draws (V = 2) and all 2,401 of 4 draws (V = 3), 6 policies, five functionals, "
    "the estimator that maximises the excess, five δ; and a functional that attains equality",
    expects="holds",
)
def symmetrisation() -> Finding:
    """Markov's inequality for the largest of |Π| non-negative variables of mean 1, by enumeration."""
    worst_share, largest_mean, members = 0.0, 0.0, 0
    rows = {}
    for world, policies in _worlds():
        members = len(policies)
        for name, functional in functionals(world, policies, seed=1).items():
            excess = world.excess(functional)
            mean = float((np.exp(excess).max(0) * world.probability).sum()) / members
            shares = [violation(world, excess, math.log(members / d)) / d for d in DELTAS]
            largest_mean, worst_share = max(largest_mean, mean), max(worst_share, *shares)
            rows[f"V = {policies.shape[1]}, {name}"] = {"mean_over_members": mean, "largest_violation_over_delta": max(shares)}
    tight = tightness()
    holds = worst_share <= 1 + ROUNDING and largest_mean <= 1 + ROUNDING
    evidence = {
        "data_sets": [len(world.sets) for world, _ in _worlds()],
        "total_probability_minus_1": max(abs(float(w.probability.sum()) - 1) for w, _ in _worlds()),
        "members": members,
        "deltas": list(DELTAS),
        "largest_violation_over_delta": worst_share,
        "largest_mean_over_members": largest_mean,
        "by_functional": rows,
        "tightness": tight,
    }
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else rows)


def tightness() -> dict[str, float]:
    """Disjoint events of probability δ/|Π|: at 0.999·|Π|/δ the bound is already broken with probability δ."""
    world, policies = _worlds()[0]
    fair = World.of(np.array([0.5, 0.5]), np.array([0.5, 0.5]), world.sets.shape[1])
    excess = fair.excess(disjoint_events(fair, len(policies), each=8))
    delta = violation(fair, excess, 0.0)
    full = math.log(len(policies) / delta)
    return {
        "delta": delta,
        "violation_at_|Π|/δ": violation(fair, excess, full + ROUNDING),
        "violation_at_0.999·|Π|/δ": violation(fair, excess, full + math.log(0.999)),
    }

"""How good a policy of a finite language is: sums over all responses and all pairs of them, without sampling error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llm.world import exact
from theory.instances.language import Language
from theory.instances.tabular import Array
from theory.sampling import population

# Rewards nearer to each other than this (nats) are the same: a float32 holds no more of a sum of log-probabilities.
TIE = 1e-5
# Of `exact.ExactReport`.
DISTANCES = ("forward_kl", "reverse_kl", "kl_to_reference", "entropy", "off_language_mass")


@dataclass(frozen=True)
class Measures:
    """A policy, averaged over the prompts; nats unless stated. Distances are those of `exact.ExactReport`.

    A fresh comparison has y, y' iid from π_ref, y ≠ y', and a label from the preference model. What is said of them is
    the expectation, as if infinitely many had been held out.

    Attributes:
        oracle_reward: E_{y~π}[r*(y)], r* = γ log π* (unified §2), of the policy given that its response is in the language.
        win_rate: probability that y ~ π is preferred to y' ~ π_ref by the preference model; ½ where they are the same.
        accuracy: probability that the policy's reward r̂ ranks a fresh comparison as its label does; ½ where r̂ ties.
        policy_accuracy: the same for log π as the reward, whatever the objective.
        chosen_logp, rejected_logp: E[log π(y_w)] and E[log π(y_l)] over fresh comparisons.
    """

    forward_kl: float
    reverse_kl: float
    kl_to_reference: float
    entropy: float
    off_language_mass: float
    oracle_reward: float
    win_rate: float
    accuracy: float
    policy_accuracy: float
    chosen_logp: float
    rejected_logp: float


@dataclass(frozen=True)
class Judge:
    """Measures policies of a language; everything that does not depend on the policy is computed once."""

    language: Language

    def measure(self, logp: Array, reward: Array) -> Measures:
        """`Measures` of log π(y|x) and of the reward r̂(x, y) that ranks responses, shape (X, V) each, nats."""
        report = exact.report(self.language, logp)
        policy = np.exp(logp - np.logaddexp.reduce(logp, -1, keepdims=True))
        return Measures(
            **{name: getattr(report, name) for name in DISTANCES},
            oracle_reward=float((policy * self._reward).sum(-1).mean()),
            win_rate=float((policy * self._beats_reference).sum(-1).mean()),
            accuracy=self._accuracy(reward),
            policy_accuracy=self._accuracy(logp),
            chosen_logp=float((self.chosen * logp).sum()),
            rejected_logp=float((self._wins.sum(1) * logp).sum()),
        )

    def known(self) -> dict[str, Array]:
        """log π of policies that no training gives: the target, the reference, and the winners of fresh comparisons."""
        winners = np.log(self.chosen / self.chosen.sum(-1, keepdims=True))
        return {**{which: self.language.log_probs(which) for which in ("target", "reference")}, "winners": winners}

    @cached_property
    def chosen(self) -> Array:
        """The probability that a fresh comparison is of prompt x and y is preferred, shape (X, V)."""
        return self._wins.sum(-1)

    @cached_property
    def _wins(self) -> Array:
        """The probability that a fresh comparison is (x, y_w, y_l), shape (X, V, V)."""
        wins = population(self.language.instance()).wins[0]
        return wins / wins.sum()

    @cached_property
    def _reward(self) -> Array:
        return self.language.gamma * self.language.log_probs("target")

    @cached_property
    def _beats_reference(self) -> Array:
        """The probability that y is preferred to a draw from π_ref, shape (X, V)."""
        instance = self.language.instance()
        return np.einsum("xij,xj->xi", instance.win_probability(), instance.reference)

    def _accuracy(self, reward: Array) -> float:
        margin = reward[:, :, None] - reward[:, None, :]
        right = np.where(np.abs(margin) > TIE, margin > 0, 0.5)
        return float((self._wins * right).sum())

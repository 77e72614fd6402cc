"""Finite classes of policies that contain the target, and what the likelihood leaves of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product as combinations

import numpy as np
import torch
from numpy.typing import NDArray

from theory.instances import Instance
from theory.instances.random import log_softmax
from theory.instances.tabular import Array, expit
from theory.objectives.reward import bradley_terry
from theory.sampling import WinCounts
from theory.statistics.coverage import coverage_finite
from theory.statistics.divergences import forward_kl

Mask = NDArray[np.bool_]
# Log-likelihoods and rewards closer than this are equal: they differ by rounding.
EQUAL = 1e-9


def preference_errors(instance: Instance, logp: Array) -> Array:
    """E_μ[(σ(Δr_π) − σ(Δr*))²] of policies of shape (…, X, V), result (…): the left side of Proposition 12."""
    reward = instance.gamma * logp
    gap = expit(reward[..., :, None] - reward[..., None, :]) - instance.win_probability()
    mu = instance.data_policy
    return np.einsum("x,xi,xj,...xij->...", instance.context_weights, mu, mu, gap**2)


@dataclass(frozen=True)
class FiniteClass:
    """K policies, the first of which is the target.

    Attributes:
        instance: the world; its target is ``policies[0]``.
        policies: probabilities, shape (K, X, V).
        rewards: the members that the reward class induces, 0 among them (Π_R ⊂ Π, Assumption 5).
    """

    instance: Instance
    policies: Array
    rewards: Sequence[int]

    def __len__(self) -> int:
        return len(self.policies)

    @property
    def subclass(self) -> FiniteClass:
        """Π_R as a class of its own."""
        return replace(self, policies=self.policies[list(self.rewards)], rewards=range(len(self.rewards)))

    @property
    def bound(self) -> float:
        """B of Assumption 2: the least with −B ≤ log π."""
        return float(-np.log(self.policies).min())

    @cached_property
    def errors(self) -> Array:
        """E_μ[(σ(Δr_π) − σ(Δr*))²] of every member, shape (K,)."""
        return preference_errors(self.instance, np.log(self.policies))

    @cached_property
    def kls(self) -> Array:
        """Forward KL of every member, nats, shape (K,)."""
        target, policies = (torch.from_numpy(np.log(p)) for p in (self.instance.target, self.policies))
        return forward_kl(target, policies, torch.from_numpy(self.instance.context_weights)).numpy()

    @property
    def coverage(self) -> float:
        """C_Π (Definition 3)."""
        return coverage_finite(self.instance, self.policies)

    def coverage_of_pairs(self, base: Array) -> float:
        """C_{Π,ν} of Theorem 14: the coverage of r_π − r_π' for all pairs of members, centred under ν (X, V)."""
        under_base = replace(self.instance, data_policy=base)
        first, second = np.triu_indices(len(self), 1)
        # r_π − r_π' is the reward difference to the target of a policy ∝ π*·π/π'.
        return coverage_finite(under_base, self.instance.target * self.policies[first] / self.policies[second])

    def likely(self, data: WinCounts) -> Mask:
        """The maximum-likelihood members of every data set, all of them where several tie; shape (S, K)."""
        reward = torch.from_numpy(self.instance.gamma * np.log(self.policies))
        loss = bradley_terry(reward.unsqueeze(-1), reward.unsqueeze(-2)).numpy()
        found = data.wins.reshape(len(data.wins), -1) @ loss.reshape(len(self), -1).T
        return found <= found.min(1, keepdims=True) + EQUAL * (1 + np.abs(found).min(1, keepdims=True))

    @cached_property
    def differs(self) -> Array:
        """1 where Δr of a member differs from that of a reward, shape (|R|, K, X, V, V)."""
        reward = self.instance.gamma * np.log(self.policies)
        delta = reward[..., :, None] - reward[..., None, :]
        return (np.abs(delta - delta[list(self.rewards), None]) > EQUAL).astype(float)

    def differs_on_pairs(self, base: Array) -> Array:
        """P(Δr_π ≠ Δr) for a pair from ``base`` (X, V), every reward and member: shape (|R|, K)."""
        return np.einsum("x,xi,xj,rkxij->rk", self.instance.context_weights, base, base, self.differs, optimize=True)

    def differs_on_prompts(self) -> Array:
        """P_ρ(π ≠ π_r) for every reward and member, shape (|R|, K)."""
        return self.differs.max((-1, -2)) @ self.instance.context_weights


def fitted(likely: Mask, seen: Array, differs: Array) -> Mask:
    """What a second stage may return: members that agree with a most likely reward on all it saw.

    Args:
        likely: the most likely rewards, shape (S, |R|).
        seen: positive where something was seen, shape (S, P).
        differs: positive where a member and a reward differ, shape (|R|, K, P).

    Returns:
        Shape (S, K).
    """
    agree = np.einsum("sp,rkp->srk", seen, differs, optimize=True) == 0
    return np.asarray((agree & likely[..., None]).any(1))


def worst(values: Array, allowed: Mask) -> Array:
    """The largest value (K,) among the members allowed for each data set (S, K): ties go to the adversary."""
    return np.where(allowed, values, -np.inf).max(1)


def scattered(instance: Instance, size: int, spread: float, seed: int) -> FiniteClass:
    """The target and policies softmax(log π* + spread·N(0, 1)); the first quarter is the reward class."""
    noise = np.random.default_rng(seed).standard_normal((size, *instance.target.shape))
    noise[0] = 0
    return FiniteClass(instance, np.exp(log_softmax(np.log(instance.target) + spread * noise)), range(size // 4))


def grid(instance: Instance, side: int, spread: float) -> FiniteClass:
    """A grid of side² policies π* exp(φ·w)/Z of a log-linear class with two features; a row of it is the reward class."""
    assert instance.features is not None
    ticks = spread * (np.arange(side) - side // 2)
    centre_first = sorted(combinations(ticks, ticks), key=lambda w: (w != (0, 0), w[1] != 0))
    policies = [log_softmax(np.log(instance.target) + instance.features @ np.array(w)) for w in centre_first]
    return FiniteClass(instance, np.exp(policies), range(side))


def menu(instance: Instance, shift: float) -> FiniteClass:
    """Every choice, context by context, of π*, π* with its rarest, or with its most common response (under μ) shifted.

    The odds of one response are multiplied by e^shift. The reward class leaves the rare ones alone,
    so that its coverage is small and that of the whole class is not.
    """
    rows = []
    for target, data in zip(np.log(instance.target), instance.data_policy, strict=True):
        unit = np.eye(len(data))
        rows.append([target, target + shift * unit[data.argmax()], target + shift * unit[data.argmin()]])
    choices = sorted(combinations(range(3), repeat=instance.contexts), key=lambda choice: 2 in choice)
    policies = [[rows[x][c] for x, c in enumerate(choice)] for choice in choices]
    return FiniteClass(instance, np.exp(log_softmax(np.array(policies))), range(2**instance.contexts))

"""Which responses an objective drains on given data: its tails, its barriers and its reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theory.objectives import Objective
from theory.solvers.existence import Mask, Tails, WinGraph, competing, stopped, tails, vanishing
from theory.solvers.options import Options
from theory.solvers.pairloss import SIDES, PairLoss
from theory.solvers.recession import sinking, slopes

# A reward margin so large that only its limit matters: far beyond the margins that `tails` probes
# (1e12 nats times a temperature), yet its square still resolves them in float64.
INFINITE_REWARD = 1e20


@dataclass(frozen=True)
class Drain:
    """The structure of one objective at S settings of its hyperparameters, each of shape (S,)."""

    objective: Objective
    hyper: dict[str, Tensor]
    gamma: float
    options: Options

    def of(self, graph: WinGraph, seeds: int) -> Mask:
        """Responses whose probability goes to 0, shape (S·X, V), for a graph of S·X contexts."""
        index = np.repeat(np.arange(seeds), graph.batch // seeds)
        rewarded = per_seed_flags(self._terms.reward, seeds)[index][:, None] & self._learns_reward
        if not self.objective.reads("logp"):
            return graph.drained & (rewarded | self.objective.has_loss)
        barriers = {name: flags[index] for name, flags in self._barriers(seeds).items()}

        def found(shape: Tails) -> Mask:
            return vanishing(graph, shape.take(index), **barriers)

        finite = tails(self._loss(0.0), seeds)
        if not (self._learns_reward and self._coupled):
            return found(finite) | (graph.drained & rewarded)
        # The learned reward sends its own responses away; what sinks in level does so at any margin.
        infinite = tails(self._loss(INFINITE_REWARD), seeds)
        without, level = (replace(infinite, level=mask) for mask in (np.zeros(seeds, bool), finite.level))
        return found(without) | found(level) | (graph.drained & rewarded)

    def unbounded(self, frequencies: NDArray[np.float64], log_ref: Tensor) -> Mask:
        """Responses along whose flight the loss falls without bound, shape (S, X, V); see `recession`.

        Args:
            frequencies: W/n_x, shape (S, X, V, V).
            log_ref: log π_ref, shape (S, X, V).
        """
        seeds, contexts, vocab = log_ref.shape
        if not (self.objective.has_loss and self.objective.reads("logp")):
            return np.zeros((seeds, contexts, vocab), dtype=bool)
        slope = slopes(self._loss(0.0), seeds)
        falling = np.flatnonzero(slope.falls)
        found = np.zeros((seeds, contexts, vocab), dtype=bool)
        if len(falling):
            pull = np.broadcast_to(torch.as_tensor(self._terms.forward_kl).numpy(), seeds)[falling]
            barrier = pull[:, None, None] * log_ref.exp().numpy()[falling]
            each = slope.take(np.repeat(falling, contexts))
            flat = sinking(frequencies[falling].reshape(-1, vocab, vocab), each, barrier.reshape(-1, vocab))
            found[falling] = flat.reshape(-1, contexts, vocab)
        return found

    def undecided(self, graph: WinGraph, seeds: int) -> Mask:
        """Data sets whose existence structure does not decide (see `existence.competing`), shape (S,)."""
        barriers = self._barriers(seeds)
        if not (self.objective.reads("logp") and barriers["entropic"].any()):
            return np.zeros(seeds, dtype=bool)
        shape = tails(self._loss(INFINITE_REWARD if self._learns_reward and self._coupled else 0.0), seeds)
        contested = barriers["entropic"] & ~barriers["forward"] & competing(shape) & shape.inverted & ~shape.separated
        return contested & graph.drained.reshape(seeds, -1).any(1)

    def levels_off(self, seeds: int) -> Mask:
        """Where nothing that structure can see stops or drives a flight, shape (S,).

        The loss is bounded whichever way a margin goes, and no other term holds the policy: whether
        it has a minimum depends on the numbers, not on the win graph.
        """
        if not (self.objective.has_loss and self.objective.reads("logp")):
            return np.zeros(seeds, dtype=bool)
        shape, barriers = tails(self._loss(0.0), seeds), self._barriers(seeds)
        return ~shape.inverted & ~shape.separated & ~barriers["entropic"] & ~barriers["forward"]

    def by_separation(self, seeds: int) -> tuple[Mask, Mask] | None:
        """Whether separable comparisons leave no finite minimiser, each of shape (S,).

        Through the reward's class (a learned reward becomes infinite) and through the policy's;
        None for a loss that the level of the log-probabilities moves too, which separability
        alone does not decide.
        """
        none = np.zeros(seeds, dtype=bool)
        rewarded = per_seed_flags(self._terms.reward, seeds) & self._learns_reward
        if not self.objective.reads("logp"):
            return rewarded | self.objective.has_loss, none
        by_reward = self._drains(INFINITE_REWARD, seeds) if self._learns_reward and self._coupled else none
        by_policy = self._drains(0.0, seeds)
        return None if by_reward is None or by_policy is None else (rewarded | by_reward, by_policy)

    def _drains(self, margin: float, seeds: int) -> Mask | None:
        shape = tails(self._loss(margin), seeds)
        if shape.level.any():
            return None
        return ~shape.separated & ~stopped(shape, **self._barriers(seeds))

    def _barriers(self, seeds: int) -> dict[str, Mask]:
        """Where the terms are present that keep probabilities from 0, each of shape (S,)."""
        entropic = per_seed_flags(self._terms.entropy + self._terms.kl, seeds)
        return {"entropic": entropic, "forward": per_seed_flags(self._terms.forward_kl, seeds)}

    @property
    def _terms(self) -> Any:
        return self.objective.coefficients(gamma=self.gamma, **self.hyper)

    @property
    def _learns_reward(self) -> bool:
        """A learned reward is itself infinite where a Bradley–Terry fit is."""
        return self.options.oracle == "learned" and self.objective.needs_reward

    @property
    def _coupled(self) -> bool:
        """Whether the reward margin moves the policy's gradient at all."""
        slopes = []
        for margin in (0.0, 1.0):
            winner = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
            value = self._loss(margin)(winner, torch.tensor([-2.0], dtype=torch.float64))
            slopes.append(torch.autograd.grad(value.sum(), winner)[0])
        return not torch.equal(*slopes)

    def _loss(self, margin: float) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss as a function of (log π_w, log π_l) at a fixed reward margin."""
        one = torch.ones(1, dtype=torch.float64)
        fixed = {"ref_logp_chosen": -one, "ref_logp_rejected": -one, "length_chosen": one, "length_rejected": one}
        fixed |= {"reward_chosen": margin * one, "reward_rejected": 0 * one}
        fixed |= {f"student_reward_{side}": 0 * one for side in SIDES}
        # Two inputs, not a margin: the tails ask what happens when both sink.
        loss = PairLoss(self.objective, self.gamma, self.hyper, fixed, self.options.tied, ())
        return lambda winner, loser: loss(logp_chosen=winner, logp_rejected=loser)


def per_seed_flags(coefficient: Any, seeds: int) -> Mask:
    """Where a coefficient (a number or a tensor of shape (S,)) is not zero, shape (S,)."""
    return np.broadcast_to(np.asarray(torch.as_tensor(coefficient) != 0), seeds)

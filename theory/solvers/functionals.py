"""The four policy functionals of the general form, with closed-form derivatives in the logits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from theory.objectives import Terms

# Longest step in a logit, in nats, while a term in E_π is present. Such terms are flat where a
# probability is tiny: a longer step may land a response there, where every gradient is zero.
LONGEST_STEP = 3.0


@dataclass(frozen=True)
class Functionals:
    """−a·E_π[r] − α·H(π) + β·KL(π‖π_ref) + λ·KL(π_ref‖π), exactly, on a table.

    Attributes:
        reward, entropy, kl, forward_kl: a, α, β, λ; tensors of shape (…, 1) or numbers.
    """

    reward: Tensor
    entropy: Tensor
    kl: Tensor
    forward_kl: Tensor

    @classmethod
    def of(cls, terms: Terms) -> Functionals:
        """The functionals of an objective's terms; coefficients get the shape (…, 1)."""
        columns = (torch.as_tensor(c, dtype=torch.float64).unsqueeze(-1) for c in terms.coefficients.values())
        return cls(*columns)

    @property
    def zero(self) -> bool:
        """Whether all four coefficients vanish."""
        return not any(bool(c.any()) for c in (self.reward, self.entropy, self.kl, self.forward_kl))

    @property
    def longest_step(self) -> float:
        """The longest step in a logit that their quadratic model is good for, in nats."""
        return LONGEST_STEP if any(bool(c.any()) for c in (self.reward, self.entropy, self.kl)) else math.inf

    def _log_utility(self, logp: Tensor, log_ref: Tensor, reward: Tensor | None) -> Tensor:
        """u with −aE_π[r] − αH + βKL(π‖π_ref) = E_π[u]."""
        utility = (self.entropy + self.kl) * logp - self.kl * log_ref
        return utility if reward is None else utility - self.reward * reward

    def value(self, logp: Tensor, log_ref: Tensor, reward: Tensor | None) -> Tensor:
        """The sum of the four terms in each context; inputs (…, V), result (…), nats."""
        on_policy = (logp.exp() * self._log_utility(logp, log_ref, reward)).sum(-1)
        return on_policy + self.forward_kl.squeeze(-1) * (log_ref.exp() * (log_ref - logp)).sum(-1)

    def gradient(self, logp: Tensor, log_ref: Tensor, reward: Tensor | None) -> Tensor:
        """In the logits: π ⊙ (u − E_π u) + λ(π − π_ref), shape (…, V)."""
        p, u = logp.exp(), self._log_utility(logp, log_ref, reward)
        return p * (u - (p * u).sum(-1, keepdim=True)) + self.forward_kl * (p - log_ref.exp())

    def hessian(self, logp: Tensor, log_ref: Tensor, reward: Tensor | None) -> Tensor:
        """In the logits, shape (…, V, V): diag(g + κπ) − gπᵀ − πgᵀ − κππᵀ, κ = α + β, plus λ(diag π − ππᵀ)."""
        p, u = logp.exp(), self._log_utility(logp, log_ref, reward)
        g = p * (u - (p * u).sum(-1, keepdim=True))
        curvature = self.entropy + self.kl + self.forward_kl
        outer = g.unsqueeze(-1) * p.unsqueeze(-2)
        pp = (curvature * p).unsqueeze(-1) * p.unsqueeze(-2)
        return torch.diag_embed(g + curvature * p) - outer - outer.mT - pp

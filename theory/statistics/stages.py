"""One minimisation at its solution, differentiated: scores of every pair, Hessian, and the pull of the reward it reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from theory.solvers.derivatives import PairDerivatives, pair_derivatives
from theory.solvers.pairloss import SIDES, PairLoss
from theory.solvers.problem import Problem

# Eigenvalues of a Hessian of unit diagonal below this share of the largest belong to directions that
# are not identified; below the next, to rounding.
FLAT, ROUNDING = 1e-10, 1e-12


@dataclass(frozen=True)
class Channel:
    """One input of a loss, as the score of every labelled pair.

    Attributes:
        slope: ∂ℓ/∂input at each pair (winner on axis −2), shape (P, V, V).
        side: the response whose number the input is, ``chosen`` or ``rejected``.
        block: which table of parameters the number stands in.
    """

    slope: Tensor
    side: str
    block: int


@dataclass(frozen=True)
class Stage:
    """One minimisation at its solution: a table of parameters for each trained variable, (P, V)."""

    problem: Problem
    tables: dict[str, Tensor]

    @cached_property
    def _loss(self) -> PairLoss:
        p = self.problem
        one = torch.ones_like(p.log_ref[:, 0, :1, None])
        fixed = {"length_chosen": one, "length_rejected": one, **_ends("ref_logp", p.log_ref[:, 0])}
        hyper = {name: value[:, None, None] for name, value in p.hyper.items()}
        return PairLoss(p.objective, p.gamma, hyper, fixed, p.tied, p.variables)

    @cached_property
    def _derivatives(self) -> PairDerivatives:
        """ℓ differentiated in the trained tables and in the fixed reward, at every pair."""
        shape = self.problem.frequencies[:, 0].shape
        chosen = {v: self.tables[v].unsqueeze(-1).expand(shape) for v in self.problem.variables}
        rejected = {v: self.tables[v].unsqueeze(-2).expand(shape) for v in self.problem.variables}
        inputs = self._loss.inputs(chosen, rejected)
        if self.problem.reward is not None:
            inputs |= {name: t.expand(shape) for name, t in _ends("reward", self.problem.reward[:, 0]).items()}
        return pair_derivatives(self._loss, inputs)

    def channels(self) -> list[Channel]:
        """The scores in the tables of this stage, before any change to logits."""
        if not self.problem.objective.has_loss:
            return []
        gradient = self._derivatives.gradient
        found = [(k, s) for k, v in enumerate(self.problem.variables) for s in self._loss.sources(v)]
        return [Channel(_seen(gradient[name] * sign, self.problem), side, k) for k, (name, side, sign) in found]

    def to_parameters(self, table: Tensor) -> Tensor:
        """(P, D, ·) of derivatives in log π (and rewards) as derivatives in the logits: (I − π1ᵀ) on the policy."""
        policy = self.tables.get("policy")
        if policy is None:
            return table
        size = policy.shape[-1]
        top = table[:, :size] - policy.exp().unsqueeze(-1) * table[:, :size].sum(1, keepdim=True)
        return torch.cat([top, table[:, size:]], 1)

    def cross(self) -> Tensor:
        """G = ∂²L/∂θ∂r, shape (P, D, V); the part of −a·E_π[r] is −a(diag π − ππᵀ)."""
        p = self.problem
        size = p.log_ref.shape[-1]
        total = p.log_ref.new_zeros(p.size, len(p.variables) * size, size)
        if p.objective.has_loss:
            hessian = self._derivatives.hessian
            for k, v in enumerate(p.variables):
                for name, side, sign in self._loss.sources(v):
                    for other in SIDES:
                        weighted = p.frequencies[:, 0] * _seen(hessian[name, f"reward_{other}"] * sign, p)
                        total[:, k * size : (k + 1) * size] += scatter(weighted, side, other)
        total = self.to_parameters(total)
        if "policy" in self.tables:
            pi = self.tables["policy"].exp()
            total[:, :size] -= p.functionals.reward * (torch.diag_embed(pi) - pi.unsqueeze(-1) * pi.unsqueeze(-2))
        return total

    def jacobian(self) -> Tensor:
        """J = ∂ log π/∂θ, shape (P, V, D): I − 1πᵀ on the policy's logits, or on r/γ where r is all there is."""
        eye = torch.eye(self.problem.log_ref.shape[-1], dtype=torch.float64)
        if "policy" not in self.tables:
            scaled = self.tables["student"] / self.problem.gamma
            return (eye - torch.softmax(scaled, -1).unsqueeze(-2)) / self.problem.gamma
        tangent = eye - self.tables["policy"].exp().unsqueeze(-2)
        return torch.cat([tangent, *(torch.zeros_like(tangent) for _ in self.problem.variables[1:])], -1)

    @cached_property
    def _hessians(self) -> tuple[Tensor, Tensor]:
        theta = torch.cat([self.tables[v] for v in self.problem.variables], -1)
        full = self.problem.evaluate(theta)[2]
        if not bool(self.problem.ridge.any()):
            return full, full
        bare = replace(self.problem, ridge=torch.zeros_like(self.problem.ridge))
        return full, bare.evaluate(theta)[2]

    def inverse(self) -> Tensor:
        """A generalised inverse of H, shape (P, D, D); exact on scores, which are in its range."""
        scale, values, vectors = _spectrum(self._hessians[0])
        keep = values > ROUNDING * values.abs().amax(-1, keepdim=True)
        inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
        scaled = scale.unsqueeze(-1) * vectors
        return (scaled * inverse.unsqueeze(-2)) @ scaled.mT

    def flat(self) -> Tensor:
        """Directions in which the objective without its ridge does not curve upwards: columns, zero elsewhere."""
        scale, values, vectors = _spectrum(self._hessians[1])
        return scale.unsqueeze(-1) * vectors * (values <= FLAT * values.abs().amax(-1, keepdim=True)).unsqueeze(-2)


def _spectrum(hessian: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s, and the eigenvalues and eigenvectors of diag(s) H diag(s), which has a unit diagonal.

    Rescaled, the curvature of a response of probability 1e-15 is as plain as that of any other.
    """
    diagonal = hessian.diagonal(dim1=-2, dim2=-1).abs()
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    return scale, *torch.linalg.eigh(scale.unsqueeze(-1) * hessian * scale.unsqueeze(-2))


def _ends(name: str, table: Tensor) -> dict[str, Tensor]:
    """A table (P, V) as the inputs of `Pair` at every pair's two responses."""
    return {f"{name}_chosen": table.unsqueeze(-1), f"{name}_rejected": table.unsqueeze(-2)}


def _seen(table: Tensor, problem: Problem) -> Tensor:
    """The table, and 0 where a pair was never seen and its derivative is not finite."""
    unseen = (problem.frequencies[:, 0] == 0) & ~torch.isfinite(table)
    return torch.where(unseen, table.new_zeros(()), table)


def scatter(table: Tensor, row: str, column: str) -> Tensor:
    """A table of pairs (P, V, V), winner on axis −2, as a matrix over the responses of two sides."""
    if row == column:
        return torch.diag_embed(table.sum(-1 if row == "chosen" else -2))
    return table if row == "chosen" else table.mT

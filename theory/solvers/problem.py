"""A batch of tabular or log-linear optimisation problems, with value, gradient and Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from theory.objectives import Objective
from theory.solvers.closed import affine_reward
from theory.solvers.derivatives import pair_derivatives
from theory.solvers.functionals import Functionals
from theory.solvers.pairloss import PairLoss, trained

# Pairs differentiated at once: small enough for a core's cache, large enough to hide call overhead.
CHUNK = 1 << 17


@dataclass(frozen=True)
class Problem:
    """S problems of one objective, each over X contexts of V responses.

    With features a problem's contexts share the parameters w: log π ∝ φ·w. Without, every
    context is a problem of its own (X = 1) and the parameters are its logits.

    Attributes:
        objective, gamma: ℓ and the coefficients, and the γ passed to them.
        hyper: hyperparameters, each of shape (S,).
        frequencies: W/n_x, shape (S, X, V, V).
        weights: context weights, shape (S, X); ones without features.
        ridge: precision of the Gaussian prior on the implicit reward over n_x, shape (S, X).
        log_ref: log π_ref, shape (S, X, V).
        reward: the fixed reward r̂, shape (S, X, V), or None.
        tied: the student's reward is γ log π instead of a head of its own.
        policy_features, student_features: φ of shape (X, V, d), or None for a table.
    """

    objective: Objective
    gamma: float
    hyper: dict[str, Tensor]
    frequencies: Tensor
    weights: Tensor
    ridge: Tensor
    log_ref: Tensor
    reward: Tensor | None = None
    tied: bool = False
    policy_features: Tensor | None = None
    student_features: Tensor | None = None

    def take(self, index: Tensor) -> Problem:
        """The problems at ``index``."""
        batched = ("frequencies", "weights", "ridge", "log_ref", "reward")
        parts = {name: getattr(self, name)[index] for name in batched if getattr(self, name) is not None}
        return replace(self, hyper={name: value[index] for name, value in self.hyper.items()}, **parts)

    def with_hyper(self, **hyper: Tensor) -> Problem:
        """The same problems at other hyperparameters."""
        return replace(self, hyper={**self.hyper, **hyper})

    @property
    def size(self) -> int:
        """S."""
        return self.frequencies.shape[0]

    @property
    def shared(self) -> bool:
        """Whether contexts share parameters."""
        return self.policy_features is not None or self.student_features is not None

    @cached_property
    def functionals(self) -> Functionals:
        """The four policy functionals, coefficients of shape (S or 1, 1, 1)."""
        columns = {name: value.unsqueeze(-1) for name, value in self.hyper.items()}
        return Functionals.of(self.objective.coefficients(gamma=self.gamma, **columns))

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """What is trained: the policy, the student's reward head, or both."""
        return trained(self.objective, regularised=not self.functionals.zero, tied=self.tied)

    def features(self, variable: str) -> Tensor | None:
        """φ of a variable's log-linear class, or None for a table."""
        return self.policy_features if variable == "policy" else self.student_features

    @property
    def sizes(self) -> list[int]:
        """Parameters of each variable."""
        found = (self.features(v) for v in self.variables)
        return [self.log_ref.shape[-1] if phi is None else phi.shape[-1] for phi in found]

    def tables(self, theta: Tensor) -> dict[str, Tensor]:
        """Each variable as a table, shape (S, X, V): normalised log-probabilities, or rewards."""
        parts = dict(zip(self.variables, theta.split(self.sizes, -1), strict=True))
        tables = {}
        for name, part in parts.items():
            phi = self.features(name)
            table = part.unsqueeze(1) if phi is None else torch.einsum("xvd,sd->sxv", phi, part)
            tables[name] = torch.log_softmax(table, -1) if name == "policy" else table
        return tables

    def start(self, log_policy: Tensor, student: Tensor | None = None) -> Tensor:
        """Parameters whose policy is, or in a log-linear class is nearest in square to, ``log_policy``.

        A student on a table starts at ``student`` (S, X, V), and at zero without one.
        """
        parts = []
        for name, size in zip(self.variables, self.sizes, strict=True):
            phi = self.features(name)
            if name != "policy":
                known = student is not None and phi is None
                parts.append(student.squeeze(1) if known else log_policy.new_zeros(self.size, size))  # type: ignore[union-attr]
            elif phi is None:
                parts.append(log_policy.squeeze(1))
            else:
                centred = (phi - phi.mean(1, keepdim=True)).flatten(0, 1)
                goal = (log_policy - log_policy.mean(-1, keepdim=True)).flatten(1)
                parts.append(torch.linalg.lstsq(centred, goal.T).solution.T)
        return torch.cat(parts, -1)

    def excess(self, step: Tensor) -> Tensor:
        """The step's longest move of a logit over the longest that the functionals allow, shape (S,)."""
        if "policy" not in self.variables or math.isinf(self.functionals.longest_step):
            return step.new_zeros(self.size)
        phi, part = self.features("policy"), step[:, : self.sizes[0]]
        moved = part if phi is None else torch.einsum("xvd,sd->sxv", phi, part).flatten(1)
        return (moved.amax(-1) - moved.amin(-1)) / 2 / self.functionals.longest_step

    @cached_property
    def gauge(self) -> Tensor:
        """Projector on the directions that change nothing (a constant added to a table's logits)."""
        blocks = []
        for name, size in zip(self.variables, self.sizes, strict=True):
            free = name == "policy" and self.features(name) is None
            blocks.append(torch.full((size, size), free / size, dtype=torch.float64))
        return torch.block_diag(*blocks)

    def evaluate(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value (S,), gradient (S, D) and Hessian (S, D, D) in the parameters."""
        per_problem = self.frequencies[0].numel()
        step = max(1, CHUNK // per_problem)
        if self.size <= step:
            return self._evaluate(theta)
        chunks = torch.arange(self.size).split(step)
        parts = [self.take(slice(int(c[0]), int(c[-1]) + 1))._evaluate(theta[c[0] : c[-1] + 1]) for c in chunks]  # type: ignore[arg-type]
        value, gradient, hessian = (torch.cat(part) for part in zip(*parts, strict=True))
        return value, gradient, hessian

    def _evaluate(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tables = self.tables(theta)
        value, gradient, hessian = _Assembly(self, tables).run()
        g = torch.cat([self._pull(gradient[v], v) for v in self.variables], -1)
        rows = [torch.cat([self._pull2(hessian[v, u], v, u) for u in self.variables], -1) for v in self.variables]
        return (self.weights * value).sum(-1), g, torch.cat(rows, -2)

    def _pull(self, gradient: Tensor, variable: str) -> Tensor:
        """A gradient in the table turned into one in the parameters."""
        phi = self.features(variable)
        if phi is None:  # a context of its own, whose weight is one
            return gradient.squeeze(1)
        return torch.einsum("xvd,sxv->sd", phi, self.weights.unsqueeze(-1) * gradient)

    def _pull2(self, hessian: Tensor, row: str, column: str) -> Tensor:
        """A Hessian block in the table turned into one in the parameters."""
        left, right = self.features(row), self.features(column)
        if left is None and right is None:
            return hessian.squeeze(1)
        if left is None or right is None:
            raise NotImplementedError("a policy and a reward head trained together need classes of one kind")
        weighted = self.weights[..., None, None] * hessian
        return torch.einsum("xvd,sxvu,xue->sde", left, weighted, right)


@dataclass(frozen=True)
class _Assembly:
    """Value, gradient and Hessian of every context in the tables of the trained variables."""

    problem: Problem
    tables: dict[str, Tensor]

    def run(self) -> tuple[Tensor, dict[str, Tensor], dict[tuple[str, str], Tensor]]:
        p = self.problem
        shape = p.log_ref.shape
        value = p.log_ref.new_zeros(shape[:-1])
        gradient = {v: p.log_ref.new_zeros(shape) for v in p.variables}
        hessian = {(v, u): p.log_ref.new_zeros(*shape, shape[-1]) for v in p.variables for u in p.variables}
        if p.objective.has_loss:
            value = self._add_pairs(gradient, hessian)
        if "policy" in p.variables:
            logp = self.tables["policy"]
            if not p.functionals.zero:
                value = value + p.functionals.value(logp, p.log_ref, p.reward)
                gradient["policy"] = gradient["policy"] + p.functionals.gradient(logp, p.log_ref, p.reward)
                hessian["policy", "policy"] = hessian["policy", "policy"] + p.functionals.hessian(logp, p.log_ref, p.reward)
        if bool(p.ridge.any()):
            value = value + self._add_ridge(gradient, hessian)
        return value, gradient, hessian

    def _add_pairs(self, gradient: dict[str, Tensor], hessian: dict[tuple[str, str], Tensor]) -> Tensor:
        """The pair loss: weighted derivatives, scattered from pairs to responses, moved to logits."""
        p = self.problem
        value, first, second = self._weighted()
        axes = {"chosen": -1, "rejected": -2}
        for v in p.variables:
            parts = [first[name].sum(axes[side]) * sign for name, side, sign in self._loss.sources(v)]
            gradient[v] = torch.stack(parts).sum(0)
            for u in p.variables:
                matrix = hessian[v, u]
                diagonal = matrix.diagonal(dim1=-2, dim2=-1)  # a view
                for a, row, s in self._loss.sources(v):
                    for b, column, t in self._loss.sources(u):
                        if row == column:
                            diagonal += second[a, b].sum(axes[row]) * (s * t)
                        else:
                            matrix.add_(second[a, b] if row == "chosen" else second[a, b].mT, alpha=s * t)
        if "policy" in p.variables and "policy" not in self._loss.margins:
            _to_logits(self.tables["policy"].exp(), gradient, hessian)
        return value

    def _weighted(self) -> tuple[Tensor, dict[str, Tensor], dict[tuple[str, str], Tensor]]:
        """The loss summed, and its derivatives pair by pair, all multiplied by the frequencies."""
        frequencies = self.problem.frequencies
        chosen = {v: table.unsqueeze(-1).expand(frequencies.shape) for v, table in self.tables.items()}
        rejected = {v: table.unsqueeze(-2).expand(frequencies.shape) for v, table in self.tables.items()}
        found = pair_derivatives(self._loss, self._loss.inputs(chosen, rejected))
        half = {names: h for names, h in found.hessian.items() if names[0] <= names[1]}
        parts = [found.value, *found.gradient.values(), *half.values()]
        weighted = [frequencies * part for part in parts]
        # A pair that was never seen counts 0, also where its loss is not finite (0·∞).
        if not math.isfinite(sum(float(part.sum()) for part in weighted)):
            weighted = [torch.where(frequencies > 0, part, part.new_zeros(())) for part in weighted]
        value, *rest = weighted
        gradient = dict(zip(found.gradient, rest, strict=False))
        hessian = dict(zip(half, rest[len(gradient) :], strict=True))
        hessian |= {(b, a): h for (a, b), h in hessian.items()}
        return value.sum((-1, -2)), gradient, hessian

    @cached_property
    def _loss(self) -> PairLoss:
        p = self.problem
        one = torch.ones_like(p.log_ref[..., :1, None])
        fixed = {"length_chosen": one, "length_rejected": one}
        for name, table in (("ref_logp", p.log_ref), ("reward", p.reward)):
            if table is not None:
                fixed |= {f"{name}_chosen": table.unsqueeze(-1), f"{name}_rejected": table.unsqueeze(-2)}
        hyper = {name: value[:, None, None, None] for name, value in p.hyper.items()}
        return PairLoss(p.objective, p.gamma, hyper, fixed, p.tied, p.variables)

    def _add_ridge(self, gradient: dict[str, Tensor], hessian: dict[tuple[str, str], Tensor]) -> Tensor:
        """½ ridge ‖implicit reward, centred in its context‖²."""
        p = self.problem
        total = p.log_ref.new_zeros(())
        for v, table in self.tables.items():
            scale, offset = self._implicit() if v == "policy" else (torch.ones_like(table[..., :1]), torch.zeros_like(table))
            implied = scale * table + offset
            centred = implied - implied.mean(-1, keepdim=True)
            ridge = p.ridge.unsqueeze(-1)
            projector = torch.eye(table.shape[-1], dtype=table.dtype) - 1 / table.shape[-1]
            gradient[v] = gradient[v] + ridge * scale * centred
            hessian[v, v] = hessian[v, v] + (ridge * scale**2).unsqueeze(-1) * projector
            total = total + p.ridge * centred.square().sum(-1) / 2
        return total

    def _implicit(self) -> tuple[Tensor, Tensor]:
        p = self.problem
        columns = {name: value[:, None, None] for name, value in p.hyper.items()}
        return affine_reward(p.objective, p.gamma, columns, p.log_ref)


def _to_logits(p: Tensor, gradient: dict[str, Tensor], hessian: dict[tuple[str, str], Tensor]) -> None:
    """Change variables from log π to logits, in place: J = I − 1πᵀ."""
    total = gradient["policy"].sum(-1, keepdim=True)
    gradient["policy"] = gradient["policy"] - p * total
    for v, u in list(hessian):
        h = hessian[v, u]
        if v == "policy":
            h = h - p.unsqueeze(-1) * h.sum(-2, keepdim=True)
        if u == "policy":
            h = h - h.sum(-1, keepdim=True) * p.unsqueeze(-2)
        if v == u == "policy":
            outer = p.unsqueeze(-1) * p.unsqueeze(-2)
            h = h - total.unsqueeze(-1) * (torch.diag_embed(p) - outer)
        hessian[v, u] = h

"""An objective's loss as an elementwise function of what is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from theory.objectives import Objective, Pair

SIDES = ("chosen", "rejected")
# The trained quantities, and what `Pair` calls them.
PAIR_NAME = {"policy": "logp", "student": "student_reward"}


def trained(objective: Objective, *, regularised: bool, tied: bool) -> tuple[str, ...]:
    """What is trained: the policy, the student's reward head, or both.

    Args:
        objective: what its loss reads decides.
        regularised: a policy functional is present.
        tied: the student's reward is γ log π, so that reading it reads the policy.
    """
    head = objective.reads("student_reward")
    policy = objective.reads("logp") or regularised or (tied and head)
    return ("policy",) * policy + ("student",) * (head and not tied)


@dataclass(frozen=True)
class PairLoss:
    """ℓ with everything but the trained inputs filled in.

    Attributes:
        objective, gamma, hyper: hyperparameters broadcast against the pairs.
        fixed: the other inputs of `Pair`; rewards without an ensemble's axis.
        tied: the student's reward is γ log π.
        variables: what is trained, of ``policy`` and ``student``.
    """

    objective: Objective
    gamma: float
    hyper: dict[str, Any]
    fixed: dict[str, Tensor]
    tied: bool
    variables: tuple[str, ...]

    @property
    def margins(self) -> frozenset[str]:
        """The variables that ℓ reads as a margin alone: one input instead of two."""
        if self.tied and self.objective.reads("student_reward"):
            return frozenset()
        return frozenset(v for v in self.variables if PAIR_NAME[v] in self.objective.margins)

    def inputs(self, chosen: dict[str, Tensor], rejected: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inputs to differentiate in, from each variable's values at the two responses."""
        inputs = {v: chosen[v] - rejected[v] for v in self.variables if v in self.margins}
        for v in self.variables:
            if v not in self.margins:
                inputs |= {f"{PAIR_NAME[v]}_{side}": t for side, t in zip(SIDES, (chosen[v], rejected[v]), strict=True)}
        return inputs

    def sources(self, variable: str) -> list[tuple[str, str, int]]:
        """The inputs that a variable feeds: (name, side, sign)."""
        if variable in self.margins:
            return [(variable, side, sign) for side, sign in zip(SIDES, (1, -1), strict=True)]
        return [(f"{PAIR_NAME[variable]}_{side}", side, 1) for side in SIDES]

    def __call__(self, **inputs: Tensor) -> Tensor:
        """The loss of every pair, in nats, of the pairs' shape."""
        trained = dict(inputs)
        for v in self.margins:
            margin = trained.pop(v)
            trained |= {f"{PAIR_NAME[v]}_chosen": margin, f"{PAIR_NAME[v]}_rejected": margin.new_zeros(())}
        if self.tied:
            trained |= {f"student_reward_{side}": self.gamma * trained[f"logp_{side}"] for side in SIDES}
        fixed = dict(self.fixed)
        ensemble = self.objective.ensemble > 1
        if ensemble:
            fixed |= {name: value.unsqueeze(0) for name, value in fixed.items() if name.startswith("reward")}
        loss = self.objective.terms(Pair(**{**fixed, **trained}), gamma=self.gamma, **self.hyper).loss
        assert loss is not None
        return loss.squeeze(0) if ensemble else loss

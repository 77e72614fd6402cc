"""How to fit, whatever the objective."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How to fit, whatever the objective.

    Attributes:
        ridge: precision of a Gaussian prior on the fitted (implicit) reward, in units of one
            comparison; it bounds estimates on separable data and fades like 1/n.
        reward_head: ``separate`` or ``tied`` (the student's reward is γ log π).
        oracle: ``learned`` (Bradley–Terry fit) or ``true`` reward where an objective needs one.
        seed: of the bootstrap ensembles and the held-out split.
    """

    ridge: float = 0.01
    reward_head: str = "separate"
    oracle: str = "learned"
    seed: int = 0

    @property
    def tied(self) -> bool:
        """Whether the reward head is the policy itself."""
        return self.reward_head == "tied"

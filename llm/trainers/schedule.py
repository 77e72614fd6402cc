"""Hyperparameters as they stand at a point of training."""

from __future__ import annotations

from dataclasses import dataclass, field

from theory.objectives import Objective


@dataclass(frozen=True)
class Schedule:
    """The values of an objective's hyperparameters over a run.

    Attributes:
        values: constant ones, by name.
        annealed: (start, end) of those that move linearly over the run.
    """

    values: dict[str, float]
    annealed: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, objective: Objective, values: dict[str, float], *, anneal: bool = False) -> Schedule:
        """The values given and the defaults of the rest; with ``anneal`` the objective's own ranges where none is given.

        Raises:
            UserError: an unknown hyperparameter or one outside its range.
        """
        resolved = objective.resolve(values)
        moving = {p.name: p.about.anneal for p in objective.hyperparameters if p.about.anneal and p.name not in values}
        return cls(resolved, dict(moving) if anneal else {})

    def at(self, progress: float) -> dict[str, float]:
        """The values after a share ``progress`` in [0, 1] of the run."""
        return {**self.values, **{name: start + progress * (end - start) for name, (start, end) in self.annealed.items()}}

"""What every run logs about the pairs it trains on, and when it says that a policy degenerates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

# A pair whose implied preference lies this close to ½ is called non-deterministic.
NONDETERMINISTIC = 0.1
# The alarm: the chosen responses have lost this many nats since the start while the margin grew.
CHOSEN_LOSS = 10.0
# Log-probabilities or rewards of a batch, ``chosen`` and possibly ``rejected``.
Sides = Mapping[str, Tensor]
# Batches that make up the start, and the file of a checkpoint that remembers them.
OPENING, FILE = 4, "monitor.json"


@dataclass
class Monitor:
    """Log-probabilities against those at the start of the run.

    Attributes:
        opening: mean log-probability of the first batches, nats, of each side: ``chosen`` and ``rejected``.
    """

    opening: dict[str, list[float]] = field(default_factory=dict)

    def save(self, checkpoint: Path) -> None:
        """Write the start of the run into a checkpoint's folder."""
        (checkpoint / FILE).write_text(json.dumps(self.opening) + "\n", encoding="utf-8")

    def load(self, checkpoint: Path) -> None:
        """Go on from the start that a checkpoint remembers."""
        if (checkpoint / FILE).is_file():
            self.opening = json.loads((checkpoint / FILE).read_text(encoding="utf-8"))

    def metrics(self, logps: Sides, ref: Sides, rewards: Sides) -> dict[str, float]:
        """Metrics of one batch, named as TRL names them; those of pairs where both sides are given.

        Args:
            logps: log π of the responses of each side, shape (B,), nats; ``rejected`` may be left out.
            ref: log π_ref of them (the policy's own start), empty if the run has none.
            rewards: the implicit rewards of the same sides, shape (B,).
        """
        now = {side: float(values.mean()) for side, values in logps.items()}
        change = {side: value - self._start(side, value, ref) for side, value in now.items()}
        found = {f"logps/{side}": value for side, value in now.items()}
        found |= {f"logps/{side}_change": value for side, value in change.items()}
        found |= {f"rewards/{side}": float(rewards[side].mean()) for side in now}
        if "rejected" in now:
            grew = change["chosen"] - change["rejected"]
            found |= {"logps/margin_growth": grew, "degenerate": float(change["chosen"] < -CHOSEN_LOSS and grew > 0)}
            found |= _preferences(rewards["chosen"] - rewards["rejected"])
        return found

    def _start(self, side: str, now: float, ref: Sides) -> float:
        """The mean log-probability of a side at the start of the run: the reference's, or the first batches' own."""
        if side in ref:
            return float(ref[side].mean())
        first = self.opening.setdefault(side, [])
        if len(first) < OPENING:
            first.append(now)
        return sum(first) / len(first)


def _preferences(margin: Tensor) -> dict[str, float]:
    """What the margins of the rewards, shape (B,), say of the pairs."""
    implied = torch.sigmoid(margin.double())
    return {
        "rewards/margins": float(margin.mean()),
        "rewards/accuracies": float((margin > 0).double().mean()),
        "nondeterministic": float(((implied - 0.5).abs() < NONDETERMINISTIC).double().mean()),
    }


class Remember(TrainerCallback):
    """Saves a monitor with every checkpoint."""

    def __init__(self, monitor: Monitor):
        self.monitor = monitor

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            self.monitor.save(folder)

"""What every run logs about the pairs it trains on, and when it says that a policy degenerates."""

from __future__ import annotations

import json
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
# Batches that make up the start, and the file of a checkpoint that remembers them.
OPENING, FILE = 4, "monitor.json"


@dataclass
class Monitor:
    """Log-probabilities against those at the start of the run.

    Attributes:
        opening: chosen, rejected and margin of the first batches, nats.
    """

    opening: list[tuple[float, float]] = field(default_factory=list)

    def save(self, checkpoint: Path) -> None:
        """Write the start of the run into a checkpoint's folder."""
        (checkpoint / FILE).write_text(json.dumps(self.opening) + "\n", encoding="utf-8")

    def load(self, checkpoint: Path) -> None:
        """Go on from the start that a checkpoint remembers."""
        if (checkpoint / FILE).is_file():
            self.opening = [tuple(pair) for pair in json.loads((checkpoint / FILE).read_text(encoding="utf-8"))]

    def metrics(
        self, chosen: Tensor, rejected: Tensor, ref: tuple[Tensor, Tensor] | None, rewards: tuple[Tensor, Tensor]
    ) -> dict[str, float]:
        """Metrics of one batch, named as TRL names them.

        Args:
            chosen, rejected: log π of the pair's responses, shape (B,), nats.
            ref: log π_ref of them (the policy's own start), if the run has it.
            rewards: the implicit rewards, shape (B,) each.
        """
        winner, loser = float(chosen.mean()), float(rejected.mean())
        if ref is not None:
            start = float(ref[0].mean()), float(ref[1].mean())
        else:
            if len(self.opening) < OPENING:
                self.opening.append((winner, loser))
            first, second = (sum(side) / len(self.opening) for side in zip(*self.opening, strict=True))
            start = first, second
        margin = rewards[0] - rewards[1]
        implied = torch.sigmoid(margin.double())
        fell, grew = winner - start[0], (winner - loser) - (start[0] - start[1])
        return {
            "logps/chosen": winner,
            "logps/rejected": loser,
            "logps/chosen_change": fell,
            "logps/rejected_change": loser - start[1],
            "logps/margin_growth": grew,
            "rewards/chosen": float(rewards[0].mean()),
            "rewards/rejected": float(rewards[1].mean()),
            "rewards/margins": float(margin.mean()),
            "rewards/accuracies": float((margin > 0).double().mean()),
            "nondeterministic": float(((implied - 0.5).abs() < NONDETERMINISTIC).double().mean()),
            "degenerate": float(fell < -CHOSEN_LOSS and grew > 0),
        }


class Remember(TrainerCallback):
    """Saves a monitor with every checkpoint."""

    def __init__(self, monitor: Monitor):
        self.monitor = monitor

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            self.monitor.save(folder)

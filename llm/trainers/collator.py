"""Batches of pairs with their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference

# Columns that travel beside the tokens and never into the model.
SCORES = ("ref_chosen_logps", "ref_rejected_logps", "reward_chosen", "reward_rejected")


@dataclass
class PairCollator(DataCollatorForPreference):
    """TRL's collator, which also carries the rewards: shape (B,), or (k, B) for an ensemble."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        for name in SCORES:
            if name in examples[0]:
                values = torch.tensor([example[name] for example in examples], dtype=torch.float32)
                batch[name] = values.T if values.dim() == 2 else values
        return batch

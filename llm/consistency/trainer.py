"""The trainer of `llm train` on a finite language, where no sequence is read twice and no KL is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PrinterCallback

from llm.consistency.data import Pairs
from llm.models.logps import sequence_logps
from llm.trainers.preference import PreferenceTrainer, Treatment
from llm.world.tokenizer import encode
from theory.instances.language import Language
from theory.instances.tabular import Array

# Comparisons whose loss is computed at once when the whole data's is.
CHUNK = 1 << 16
# What float32 leaves of a probability off the language.
LEAST = 1e-7


def all_sequences(tokenizer: PreTrainedTokenizerBase, language: Language) -> dict[str, Tensor]:
    """(x, y, end) of every prompt and response as a model reads it, shape (X·V, longest); y varies fastest."""
    prompt = np.repeat(np.arange(language.prompts), language.vocab)
    responses = np.tile(language.responses(), (language.prompts, 1))
    return {name: torch.from_numpy(ids) for name, ids in encode(tokenizer, language, prompt, responses).items()}


@dataclass(frozen=True)
class Once:
    """A model that reads each distinct sequence of a batch once: the same outputs and gradients, for less."""

    model: Any

    def __call__(self, *, sequence: Tensor, **inputs: Any) -> Any:
        """The model's output on every line; ``sequence`` (B,) says which lines are the same."""
        distinct, place = torch.unique(sequence, return_inverse=True)
        first = torch.empty_like(distinct).scatter_(0, place, torch.arange(len(place)))
        lines = {name: value[first] if isinstance(value, Tensor) else value for name, value in inputs.items()}
        output = self.model(**lines)
        by_line = {name: value for name, value in output.items() if value.dim() and len(value) == len(distinct)}
        return type(output)(**{**output, **{name: value[place] for name, value in by_line.items()}})


class ExactKL:
    """KL(π‖π_ref) as a sum over the language, nats, where `llm train` draws fresh samples.

    KL = Σ_x ρ_x [Σ_y π log(π/π_ref) + ε log(ε/ε_ref)], ε = 1 − Σ_y π(y|x): what is off the language counts as one response,
    and so nothing is gained by going there.
    """

    def __init__(self, sequences: Mapping[str, Tensor], ref_logps: Array, shares: Array):
        """Args:
        sequences: `all_sequences`.
        ref_logps: log π_ref of them, shape (X, V), nats.
        shares: ρ, each prompt's weight, shape (X,).
        """
        self.batch = {**sequences, "sequence": torch.arange(len(sequences["input_ids"]))}
        self.reference = with_rest(torch.from_numpy(ref_logps))
        self.shares = torch.from_numpy(shares)

    def __call__(self, model: Any, inputs: Any) -> Tensor:
        """The divergence of the model that `Once` wraps, with its gradient; the batch is not read."""
        logps = with_rest(sequence_logps(model, self.batch)[0].double().reshape(len(self.shares), -1))
        return self.shares @ (logps.exp() * (logps - self.reference)).sum(-1)


def with_rest(logps: Tensor) -> Tensor:
    """Log-probabilities (X, V) with a last column for all that they leave of 1, shape (X, V + 1)."""
    rest = (1 - logps.exp().sum(-1, keepdim=True)).clamp_min(LEAST)
    return torch.cat([logps, rest.log()], -1)


class WorldTrainer(PreferenceTrainer):
    """`PreferenceTrainer` on `Pairs`."""

    def __init__(self, pairs: Pairs, treatment: Treatment, model: Any, args: Any, tokenizer: PreTrainedTokenizerBase):
        self.pairs = pairs
        args.remove_unused_columns = False
        # TRL wants a data set of rows and looks at the first; ours makes whole batches.
        row = Dataset.from_dict({"id": [""]})
        super().__init__(treatment=treatment, model=model, args=args, train_dataset=row, processing_class=tokenizer)
        self.data_collator = _as_it_is
        self.remove_callback(PrinterCallback)  # it prints on standard output

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return self.pairs

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        return super()._compute_loss(Once(model), inputs, return_outputs)

    def whole(self) -> tuple[float, float]:
        """The loss over all comparisons, nats, and the norm of its gradient in the weights: how far training has come."""
        assert self.model is not None
        self.model.zero_grad()
        total = 0.0
        for start in range(0, len(self.pairs), CHUNK):
            batch = self.pairs.__getitems__(range(start, min(start + CHUNK, len(self.pairs))))
            loss = self._compute_loss(self.model, batch, False) * (len(batch["sequence"]) / 2 / len(self.pairs))
            loss.backward()
            total += loss.item()
        squares = [parameter.grad.square().sum() for parameter in self.model.parameters() if parameter.grad is not None]
        self.model.zero_grad()
        return total, float(torch.stack(squares).sum().sqrt())


def _as_it_is(batch: Any) -> Any:
    return batch

"""KL(π‖π_ref) on fresh samples of the policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from trl.models import prepare_deepspeed, prepare_fsdp, unwrap_model_for_generation
from trl.trainer.utils import add_fused_lm_head, pad

from llm.models.logps import sequence_logps
from llm.trainers.functionals import reverse_kl_of_samples


@dataclass
class FreshKL:
    """Samples one response to every prompt of a batch and scores it under both models.

    Attributes:
        reference: π_ref, frozen, with TRL's fused head; None where the policy is π_ref with adapters,
            which are then switched off to score: no second model is held.
        accelerator: of the trainer; set by `join`.
        eos, pad: token ids.
        new_tokens: longest response.
    """

    reference: torch.nn.Module | None
    accelerator: Any
    eos: int
    pad: int
    new_tokens: int

    def join(self, trainer: Any) -> None:
        """Give the reference TRL's fused head, and the trainer's devices and sharding."""
        self.accelerator = trainer.accelerator
        if self.reference is None:
            return
        add_fused_lm_head(self.reference)  # type: ignore[arg-type]
        self.reference.requires_grad_(False).eval()
        if trainer.is_deepspeed_enabled:
            self.reference = prepare_deepspeed(self.reference, self.accelerator)
        elif trainer.is_fsdp_enabled:
            self.reference = prepare_fsdp(self.reference, self.accelerator)  # type: ignore[assignment]
        else:
            self.reference = self.accelerator.prepare_model(self.reference, evaluation_mode=True)

    def __call__(self, model: torch.nn.Module, inputs: dict[str, Any]) -> Tensor:
        batch = self._sampled(model, _prompts(inputs))
        with torch.no_grad(), self._reference(model) as reference:
            ref_logps = sequence_logps(reference, batch)[0]
        logps = sequence_logps(model, batch)[0]
        return reverse_kl_of_samples(logps, ref_logps)

    @contextmanager
    def _reference(self, model: torch.nn.Module) -> Iterator[torch.nn.Module]:
        """π_ref: the model held for it, or the policy without its adapters, out of training mode."""
        if self.reference is not None:
            yield self.reference
            return
        training = model.training
        with self.accelerator.unwrap_model(model).disable_adapter():
            model.eval()
            yield model
        model.train(training)

    def _sampled(self, model: torch.nn.Module, prompts: list[Tensor]) -> dict[str, Tensor]:
        """Prompts with fresh responses as a right-padded batch, shape (B, length)."""
        left = pad(prompts, padding_value=self.pad, padding_side="left")
        seen = pad([torch.ones_like(p) for p in prompts], padding_value=0, padding_side="left")
        with torch.no_grad(), unwrap_model_for_generation(model, self.accelerator) as sampler:
            training, habits = sampler.training, sampler.generation_config
            sampler.eval()
            # The policy itself is sampled: temperature 1, and nothing of what a checkpoint brings (top-p, penalties, …).
            sampler.generation_config = GenerationConfig(eos_token_id=self.eos, pad_token_id=self.pad)
            whole = sampler.generate(
                left, attention_mask=seen, max_new_tokens=self.new_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0
            )
            sampler.generation_config = habits
            sampler.train(training)
        return self._rows(prompts, whole[:, left.shape[1] :])

    def _rows(self, prompts: list[Tensor], responses: Tensor) -> dict[str, Tensor]:
        rows, masks = [], []
        for prompt, response in zip(prompts, responses, strict=True):
            ends = (response == self.eos).nonzero()
            kept = response[: int(ends[0]) + 1] if len(ends) else response
            rows.append(torch.cat([prompt, kept]))
            masks.append(torch.cat([torch.zeros_like(prompt), torch.ones_like(kept)]))
        return {
            "input_ids": pad(rows, padding_value=self.pad),
            "attention_mask": pad([torch.ones_like(row) for row in rows], padding_value=0),
            "completion_mask": pad(masks, padding_value=0),
        }


def _prompts(inputs: dict[str, Any]) -> list[Tensor]:
    """The prompts of a batch [all chosen; all rejected], each once."""
    half = len(inputs["input_ids"]) // 2
    starts = inputs["completion_mask"][:half].argmax(1)
    return [row[:start] for row, start in zip(inputs["input_ids"][:half], starts.tolist(), strict=True)]

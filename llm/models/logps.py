"""Log-probabilities and rewards of a batch of pairs: one function for scoring and for training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from llm.models.reward_head import has_reward_head

# What a collated batch holds beside the model's own inputs.
BESIDE = ("completion_mask", "ref_chosen_logps", "ref_rejected_logps")


def sequence_logps(model: nn.Module, batch: Mapping[str, Any], **inputs: Any) -> tuple[Tensor, Tensor, Tensor | None, Any]:
    """log π(y|x) = Σ_t log π(y_t | x, y_<t) over the completion's tokens of each sequence.

    The vocabulary's logits are never held at once: the model's forward is TRL's fused one
    (``trl.trainer.utils.add_fused_lm_head``), which computes in float32 whatever the model's type.

    Args:
        model: with TRL's fused LM head, and possibly a reward head (`llm.models.reward_head`).
        batch: of TRL's preference collator: ``input_ids``, ``attention_mask``, ``completion_mask``, shape
            (2B, T), all chosen before all rejected.
        inputs: more arguments of the model's forward.

    Returns:
        Log-probabilities, nats, and completion lengths in tokens, shape (2B,) each; rewards of the same shape,
        or None without a reward head; and the model's output.
    """
    mask = batch["completion_mask"]
    given = {name: value for name, value in batch.items() if name not in BESIDE}
    labels = batch["input_ids"].masked_fill(mask == 0, -100)
    outputs = model(**given, labels=labels, use_cache=False, fused_lm_head=True, **inputs)
    scored = mask[:, 1:]  # a first token has nothing before it to be predicted from
    # Prompt tuning puts virtual tokens in front: the last positions are the real ones.
    logps = outputs.log_probs[:, -scored.shape[1] :].sum(1)
    return logps, scored.sum(1), getattr(outputs, "rewards", None), outputs


def sequence_rewards(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """r(x, y) of each sequence of a batch, shape (2B,), nats: the reward head's, or a one-label classifier's logit.

    Args:
        model: of `llm.models.load.load_reward_model`, a language model with TRL's fused LM head.
        batch: as for `sequence_logps`.
    """
    if has_reward_head(model):
        rewards = sequence_logps(model, batch)[2]
        assert rewards is not None
        return rewards
    given = {name: value for name, value in batch.items() if name not in BESIDE}
    return model(**given, use_cache=False).logits[:, 0]

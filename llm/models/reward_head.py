"""A causal language model with a linear reward head beside its LM head.

The head is part of the model's own forward: what wraps the model (DDP, FSDP, ZeRO-3, PEFT) runs its hooks
around it, and its weight is saved and loaded with the model's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, initialization
from trl.trainer.utils import FusedCausalLMOutput

from theory.errors import UserError

NAME = "reward_head"
# Standard deviation of a fresh head's rewards, nats: small beside a preference's margin, and not zero,
# so that the first step reaches the backbone too.
FRESH_SCALE = 0.1


@dataclass
class RewardedOutput(FusedCausalLMOutput):
    """TRL's output with the sequences' rewards, shape (B,), nats.

    A field, and no mere attribute: what wraps a model rebuilds its output from the fields.
    """

    rewards: Tensor | None = None


class RewardHead(nn.Module):
    """r(x, y) = w·h with h the final hidden state of the last attended token.

    There is no bias: a constant shift of r changes no preference. No ``nn.Linear`` either, so that neither
    quantisation nor LoRA on all linear layers takes the head for one of the backbone's.

    Args:
        hidden: the width of h.
        seed: of the fresh weights; members of an ensemble differ in it.

    Attributes:
        fresh: whether the weights are the seed's, not those of a checkpoint.
    """

    def __init__(self, hidden: int, seed: int = 0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, hidden))
        self.seed = seed
        self.fresh = True
        with torch.no_grad():
            self.weight.copy_(self.drawn())

    def drawn(self) -> Tensor:
        """The seed's weights: independent normal, so that rewards of an h with ‖h‖² = width have scale `FRESH_SCALE`."""
        width = self.weight.shape[1]
        generator = torch.Generator("cpu").manual_seed(self.seed)
        return torch.randn(1, width, generator=generator, device="cpu") * (FRESH_SCALE / width**0.5)

    def forward(self, hidden: Tensor) -> Tensor:
        """Rewards, shape (B,), of final hidden states, shape (B, width): in float32 at least, also under autocast."""
        hidden = hidden.to(self.weight.device, torch.promote_types(hidden.dtype, torch.float32))
        return (hidden * self.weight.to(hidden.dtype)).sum(-1)


def add_reward_head(model: PreTrainedModel, seed: int = 0) -> None:
    """Give a causal language model a fresh reward head.

    Afterwards ``model(..., labels=labels, fused_lm_head=True)``, TRL's fused forward, also returns
    ``rewards``. All other calls (generation too) are as they were. Add it before PEFT wraps the model, and
    train it there with ``modules_to_save=["reward_head"]``.

    Raises:
        UserError: the model has one already, or no LM head to be beside.
    """
    lm_head: Any = model.get_output_embeddings()
    backbone: Any = model.base_model
    if lm_head is None or backbone is model:
        raise UserError("--model", model.config.model_type, "is no causal language model with an LM head")
    if has_reward_head(model):
        raise UserError("--model", model.config.model_type, "has a reward head already")
    head = RewardHead(lm_head.in_features, seed)  # not the config's hidden size: some project it before the LM head
    model.add_module(NAME, head.to(lm_head.weight.device, lm_head.weight.dtype))
    backbone.last_hidden = []
    # Hooks, because TRL replaces the model's forward; plain functions, because models are copied.
    backbone.register_forward_hook(_keep_hidden)
    model.register_forward_hook(_add_rewards, with_kwargs=True)


def has_reward_head(model: nn.Module) -> bool:
    """Whether the model, or what it wraps, carries a reward head."""
    return any(isinstance(module, RewardHead) for module in model.modules())


def with_reward_head(base: type[PreTrainedModel], seed: int = 0) -> type[PreTrainedModel]:
    """The model class whose every instance has a reward head, so that ``from_pretrained`` loads it by name.

    The class keeps the base's name: a checkpoint's configuration stays one that everybody can load.
    """

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        base.__init__(self, config, *args, **kwargs)
        add_reward_head(self, seed)

    def _init_weights(self: Any, module: nn.Module) -> None:
        if isinstance(module, RewardHead):
            initialization.copy_(module.weight, module.drawn())  # passes weights by that a checkpoint gave
        else:
            base._init_weights(self, module)

    body = {"__init__": __init__, "_init_weights": _init_weights, "__module__": base.__module__}
    return type(base.__name__, (base,), body)


def last_attended(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The state of each sequence's last attended token, shape (B, width), whichever side is padded.

    Args:
        hidden: shape (B, T, width).
        attention_mask: shape (B, T), non-zero where attended; None for everywhere.
    """
    if attention_mask is None:
        return hidden[:, -1]
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = ((attention_mask != 0) * places).argmax(1).to(hidden.device)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def _keep_hidden(backbone: Any, args: Any, output: Any) -> None:
    backbone.last_hidden[:] = [output[0]]


def _add_rewards(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """The output with rewards, for the fused forward; None, which leaves it as it is, for any other."""
    hidden = list(model.base_model.last_hidden)
    model.base_model.last_hidden.clear()  # nothing is held until the next forward
    if not kwargs.get("fused_lm_head"):
        return None
    mask = kwargs["attention_mask"] if "attention_mask" in kwargs else args[1] if len(args) > 1 else None
    return RewardedOutput(**output, rewards=model.reward_head(last_attended(hidden[0], mask)))

"""A causal language model whose next-token log-probabilities are a language's table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from theory.instances.language import Language

# Instead of −∞, which a weight cannot be: e^{−10⁴} is 0.
NEVER = -1e4


class Body(nn.Module):
    """Final hidden states that name the state (x, the last tokens) of the chain, one-hot; the end has one of its own."""

    def __init__(self, language: Language, prompts: list[int], first: int, width: int):
        super().__init__()
        self.language, self.prompts, self.first, self.width = language, prompts, first, width

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        language, rows = self.language, []
        for ids in input_ids.tolist():
            x, state, places = self.prompts.index(ids[0]), 0, [self.width - 1]
            for position, token in enumerate(ids[1:]):  # the colon, then the response
                if position > 0:
                    alive = self.first <= token < self.first + language.tokens and position <= language.length
                    state = int(language._after(state, token - self.first)) if alive else -1
                ended = position >= language.length or state < 0
                places.append(self.width - 1 if ended else x * language.target.shape[1] + state)
            rows.append(places)
        return SimpleNamespace(last_hidden_state=nn.functional.one_hot(torch.tensor(rows), self.width).float())


class TableModel(PreTrainedModel):
    """``softmax(W h)`` with h one-hot and the rows of W the chain's log-probabilities."""

    config_class = PreTrainedConfig
    base_model_prefix = "body"

    def __init__(self, language: Language, tokenizer: Any, which: str):
        super().__init__(PreTrainedConfig(vocab_size=len(tokenizer)))
        first = tokenizer.convert_tokens_to_ids("a")
        prompts = [tokenizer.convert_tokens_to_ids(f"p{x}") for x in range(language.prompts)]
        table = np.maximum(language.next_log_probs(which), NEVER)
        rows = np.full((language.prompts * table.shape[1] + 1, len(tokenizer)), NEVER)
        rows[:-1, first : first + language.tokens] = table[:, :, : language.tokens].reshape(-1, language.tokens)
        if language.eos:
            rows[:-1, tokenizer.eos_token_id] = table[:, :, -1].ravel()
        rows[-1, tokenizer.eos_token_id] = 0
        self.body = Body(language, prompts, first, len(rows))
        self.lm_head = nn.Linear(len(rows), len(tokenizer), bias=False)
        with torch.no_grad():
            self.lm_head.weight.copy_(torch.from_numpy(rows.T))

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        return SimpleNamespace(logits=self.lm_head(self.body(input_ids).last_hidden_state))

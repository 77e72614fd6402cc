"""One model's scores of the pairs of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from llm.data.tokens import TOKENS, tokenise
from llm.models.load import load_policy, load_reward_model
from llm.models.logps import sequence_logps, sequence_rewards
from llm.models.reward_head import has_reward_head
from llm.scoring.job import Job
from theory.errors import UserError

SIDES = ("chosen", "rejected")


class Member:
    """A model and the data's tokens; both are read when the first chunk is wanted.

    Args:
        name: folder or hub id.
        tokenizer: the model's.
        dataset: preference data.
        job: settings.
    """

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, job: Job):
        self.name, self.tokenizer, self.dataset, self.job = name, tokenizer, dataset, job

    def chunk(self, ids: list[str]) -> pa.Table:
        """Scores of some rows: ``id``, ``chosen`` and ``rejected``, null where the prompt fills the limit.

        Raises:
            UserError: a score is not finite, or memory does not suffice.
        """
        wanted = [self.places[row] for row in ids if row in self.places]
        rows = self.tokens.select(wanted).to_list()
        found: dict[str, tuple[float, float]] = {}
        try:
            for batch in self._batches(rows):
                scores = self._scores(batch).chunk(2)
                found |= zip((row["id"] for row in batch), zip(*(side.tolist() for side in scores), strict=True), strict=True)
        except torch.OutOfMemoryError as error:
            raise UserError("--batch-size", self.job.batch_size, "does not fit into memory: halve it and start again") from error
        for row, pair in found.items():
            if not all(map(_finite, pair)):
                raise UserError("--model", self.name, f"scores {pair[0]} and {pair[1]} in row {row}: try another --dtype")
        columns = {side: [found[row][at] if row in found else None for row in ids] for at, side in enumerate(SIDES)}
        return pa.table({"id": ids, **{side: pa.array(values, pa.float64()) for side, values in columns.items()}})

    def release(self) -> None:
        """Give the model's memory back: no further chunk is wanted."""
        for name in ("model", "tokens", "places"):
            self.__dict__.pop(name, None)

    @cached_property
    def tokens(self) -> Dataset:
        """The rows whose prompt is within the limit, as tokens."""
        return tokenise(self.dataset, self.tokenizer, self.job.max_length).select_columns(["id", *TOKENS])

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each row is among the tokens."""
        return {row: place for place, row in enumerate(self.tokens["id"])}

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model, ready to score; raises `UserError` if it cannot read the tokens."""
        load = load_policy if self.job.kind == "reference" else load_reward_model
        model = load(self.name, dtype=self.job.dtype, trust_remote_code=self.job.trust_remote_code)
        self._check_fit(model)
        if self.job.kind == "reference" or has_reward_head(model):
            add_fused_lm_head(model)
        elif model.config.pad_token_id is None:  # a classifier looks for its last token by the pad token
            model.config.pad_token_id = self.tokenizer.pad_token_id
        return model.eval().to(device())

    @cached_property
    def collator(self) -> DataCollatorForPreference:
        """TRL's; what pads is masked, and need not be in the model's vocabulary."""
        pad = self.tokenizer.pad_token_id
        return DataCollatorForPreference(pad if pad < _vocabulary(self.model) else 0, max_length=self.job.max_length)

    def _batches(self, rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Batches of pairs of like lengths, the longest first: less padding, and memory runs out at once or never."""
        rows = sorted(rows, key=lambda row: -max(len(row["prompt_ids"]) + len(row[f"{side}_ids"]) for side in SIDES))
        for start in range(0, len(rows), self.job.batch_size):
            yield rows[start : start + self.job.batch_size]

    def _scores(self, rows: list[dict[str, Any]]) -> Tensor:
        """Scores of a batch, shape (2B,): all chosen, then all rejected."""
        batch = {name: value.to(device()) for name, value in self.collator(rows).items()}
        with torch.inference_mode():
            found = sequence_logps(self.model, batch)[0] if self.job.kind == "reference" else sequence_rewards(self.model, batch)
        return found.double().cpu()

    def _check_fit(self, model: PreTrainedModel) -> None:
        """Raise `UserError` where the tokens are too many for the model, or not its own."""
        columns = self.tokens.with_format("arrow")[:]
        prompts, *completions = (pc.list_value_length(columns[name]) for name in TOKENS)
        longest = pc.max(pc.add(prompts, pc.max_element_wise(*completions))).as_py()
        longest = min(longest, self.job.max_length or longest)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or longest
        if longest > limit:
            raise UserError("--max-length", self.job.max_length, f"{self.name} reads at most {limit} tokens: lower it to that")
        largest = max(pc.max(pc.list_flatten(columns[name])).as_py() or 0 for name in TOKENS)
        if largest >= _vocabulary(model):
            raise UserError("--model", self.name, f"its tokenizer knows a token ({largest}) that the model does not: they differ")


def _vocabulary(model: PreTrainedModel) -> int:
    embeddings: Any = model.get_input_embeddings()
    return embeddings.num_embeddings


def device() -> torch.device:
    """Where to score: this process's GPU if there is one."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")


def _finite(value: float) -> bool:
    return abs(value) < float("inf")  # false for NaN too

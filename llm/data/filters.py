"""Which comparisons are short enough to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llm.data.segments import Segmenter, pair_lengths
from theory.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# drdo, Appendix D (000, line 318 f.): pairs of prompt and response of up to 1,024 tokens.
MAX_TOKENS = 1_024


def within_tokens(dataset: Dataset, segmenter: Segmenter, limit: int = MAX_TOKENS) -> Dataset:
    """The rows of which prompt and response have at most ``limit`` tokens, for both responses; order is kept.

    Raises:
        UserError: the limit is not positive, or no row is left.
    """
    if limit < 1:
        raise UserError("--max-tokens", limit, "must be at least 1")
    chosen, rejected = pair_lengths(dataset, segmenter)
    kept = np.flatnonzero(np.maximum(chosen, rejected) <= limit)
    if not kept.size:
        shortest = int(np.maximum(chosen, rejected).min())
        raise UserError("--max-tokens", limit, f"leaves no row: the shortest has {shortest} {_unit(segmenter)}")
    return dataset if kept.size == len(dataset) else dataset.select(kept)


def _unit(segmenter: Segmenter) -> str:
    return "words" if segmenter.tokenizer is None else "tokens"

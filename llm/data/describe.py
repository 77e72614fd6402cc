"""A data set in a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llm.data import segments
from llm.data.length_bias import longer
from llm.data.schema import PREFERENCES, Kind
from llm.data.segments import Segmenter

if TYPE_CHECKING:
    from datasets import Dataset


def describe(dataset: Dataset, kind: Kind, segmenter: Segmenter) -> dict[str, Any]:
    """Columns, form, mean lengths in tokens, confidences, and how often the longer response is preferred."""
    lengths = segments.lengths(dataset, kind.texts, segmenter)
    record: dict[str, Any] = {
        "form": "text" if isinstance(dataset[0]["prompt"], str) else "messages",
        "columns": dataset.column_names,
        "mean_tokens": {name: float(counts.mean()) for name, counts in lengths.items()},
    }
    if kind is PREFERENCES:
        more, fewer = (longer(lengths[a], lengths[b]).sum() for a, b in (("chosen", "rejected"), ("rejected", "chosen")))
        record["longer_preferred"] = float(more / (more + fewer)) if more + fewer else None
    if "confidence" in dataset.column_names:
        known = np.array([value for value in dataset["confidence"][:] if value is not None], dtype=np.float64)
        record["confidence"] = {"rows": known.size} | ({"mean": float(known.mean())} if known.size else {})
    return record

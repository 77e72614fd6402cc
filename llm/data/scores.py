"""Checks of the columns that scoring joins to a data set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llm.data.schema import Flaw, is_number

if TYPE_CHECKING:
    from datasets import Dataset

LOGPS = ("ref_chosen_logps", "ref_rejected_logps")
REWARDS = ("reward_chosen", "reward_rejected")


def check_scores(dataset: Dataset, columns: tuple[str, ...], source: str = "scores") -> int:
    """The number of ensemble members (1 for plain numbers), after a check that every score is there and finite.

    Raises:
        UserError: a column or value is missing or not finite, or rows have ensembles of different sizes;
            it names the row and the column.
    """
    size: int | None = None
    for column in columns:
        if column not in dataset.column_names:
            raise Flaw("missing", column, None, "is missing: score the data first (llm score)").error(source, 1)
        for row, value in enumerate(dataset[column][:], 1):
            try:
                found = _size(value, column)
            except Flaw as flaw:
                raise flaw.error(source, row) from None
            if size is not None and found != size:
                remedy = f"is from {found} ensemble members where others are from {size}: score all rows with one ensemble"
                raise Flaw("type", column, None, remedy).error(source, row)
            size = found
    return size or 1


def _size(value: Any, column: str) -> int:
    members = value if isinstance(value, list) else [value]
    for member in members or [None]:
        if member is None:
            raise Flaw("missing", column, value if members else [], "has no score")
        if not is_number(member):
            raise Flaw("type", column, member, "must be a number")
        if not math.isfinite(member):
            raise Flaw("nan", column, member, "must be finite")
    return len(members)

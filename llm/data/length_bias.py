"""Training sets with a chosen length bias: the longer response is preferred in a share ρ of them.

The design is that of the distillation paper (notes, 002, line 10): after the oracle has relabelled all
pairs, 30,000 are selected so that the longer response, one of at least 10% more tokens, is preferred in
ρ of them. Pairs of about the same length have no longer response and are not selected here; the notes
do not say what became of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm.data import segments
from llm.data.scores import REWARDS, check_scores
from llm.data.segments import Segmenter
from theory.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# Notes, line 10: rows of a training set, what "longer" means in percent, how often the oracle prefers the longer.
SIZE = 30_000
PERCENT = 10
BASE_SHARE = 0.61


@dataclass(frozen=True)
class Selection:
    """Selected rows and the pairs they came from.

    Attributes:
        rows: indices in ascending order.
        longer_preferred: selected rows whose longer response is preferred.
        available: pairs whose longer response is preferred, whose shorter one is, and with no longer one.
    """

    rows: NDArray[np.int64]
    longer_preferred: int
    available: tuple[int, int, int]

    @property
    def share(self) -> float:
        """The selected share of rows whose longer response is preferred: ρ to within half a row."""
        return self.longer_preferred / len(self.rows)


def longer(first: NDArray[np.int64], second: NDArray[np.int64], percent: int = PERCENT) -> NDArray[np.bool_]:
    """Whether the first has at least ``percent`` more tokens than the second, in whole numbers (11 against 10 counts).

    >>> longer(np.array([10, 11, 12]), np.array([10, 10, 10])).tolist()
    [False, True, True]
    """
    return (100 * first >= (100 + percent) * second) & (first > second)


def select(
    dataset: Dataset, segmenter: Segmenter, rho: float, size: int = SIZE, *, seed: int = 0, percent: int = PERCENT
) -> Selection:
    """A random selection in which the longer response is preferred in ``round(ρ · size)`` of ``size`` rows.

    Raises:
        UserError: ρ is no share, or too few rows qualify; it says how many do and what they allow.
    """
    if not 0 <= rho <= 1:
        raise UserError("--rho", rho, "must be from 0 to 1")
    if size < 1 or percent < 0:
        name, value = ("--size", size) if size < 1 else ("--percent", percent)
        raise UserError(name, value, "must be positive")
    chosen, rejected = segments.lengths(dataset, ("chosen", "rejected"), segmenter).values()
    groups = [np.flatnonzero(longer(*pair, percent)) for pair in ((chosen, rejected), (rejected, chosen))]
    wanted = (round(rho * size), size - round(rho * size))
    if any(len(rows) < count for rows, count in zip(groups, wanted, strict=True)):
        raise UserError("--size", size, _infeasible(rho, wanted, (len(groups[0]), len(groups[1]))))
    rng = np.random.default_rng(seed)
    rows = np.sort(np.concatenate([rng.choice(g, n, replace=False) for g, n in zip(groups, wanted, strict=True)]))
    return Selection(rows, wanted[0], (len(groups[0]), len(groups[1]), len(dataset) - len(groups[0]) - len(groups[1])))


def relabel(dataset: Dataset) -> tuple[Dataset, int]:
    """The data set with the response of the larger oracle reward as the chosen one, and how many rows that changed.

    Columns whose names differ only in ``chosen`` and ``rejected`` are exchanged with the responses; the id
    stays, for it names the pair. An ensemble decides by its mean; equal rewards change nothing. The rewards
    are ``oracle_reward_chosen`` and ``oracle_reward_rejected`` then, so that a learned reward's scores can be joined.

    Raises:
        UserError: there are no rewards.
    """
    import datasets
    import pyarrow.compute as pc

    names = dataset.column_names
    if not set(REWARDS) <= set(names):
        raise UserError(
            "--relabel",
            None,
            "needs reward_chosen and reward_rejected: score the data (llm score), and give the file with --scores",
        )
    check_scores(dataset, REWARDS)
    table = dataset.with_format("arrow")[:]
    chosen, rejected = (np.array([np.mean(value) for value in dataset[name][:]]) for name in REWARDS)
    swap = rejected > chosen
    columns = {name: table[name] for name in names}
    for name, twin in ((name, name.replace("chosen", "rejected")) for name in names if "chosen" in name):
        if twin in columns:
            columns[name] = pc.if_else(swap, table[twin], table[name])
            columns[twin] = pc.if_else(swap, table[name], table[twin])
    columns = {f"oracle_{name}" if name in REWARDS else name: column for name, column in columns.items()}
    return datasets.Dataset(type(table).from_pydict(columns)), int(swap.sum())


def _infeasible(rho: float, wanted: tuple[int, int], available: tuple[int, int]) -> str:
    shares = (rho, 1 - rho)
    most = min(int(count / share) for share, count in zip(shares, available, strict=True) if share > 0)
    return (
        f"needs {wanted[0]:,} rows whose longer response is preferred and {wanted[1]:,} whose shorter one is; "
        f"the data have {available[0]:,} and {available[1]:,}: ρ = {rho:g} allows up to {most:,} rows"
    )

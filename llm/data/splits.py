"""The training splits of drdo: all comparisons, the clear ones and the doubtful ones.

``D_hc,he`` has high confidence of the labeller and high edit distance of the responses, ``D_lc,le`` low
ones, each as seen from the 50th percentile over ``D_all`` (drdo, §5 and Appendix B.2). Where the paper
leaves a choice:

- A row at a percentile is in neither split. Confidence takes nine values, so this matters; the printed
  means 7.31 and 2.67 are equally far from the whole's 5.01, as they are if both ends leave the middle out.
- A row without a confidence is in no split. 44,709 training rows are fewer than half of the source's.
- Validation is a tenth of the rows, rounded up: that is how 11,263 and 11,112 rows become the printed
  10,136 + 1,127 and 10,000 + 1,112. (D_all's 86,086 validation rows are the source's own validation split.)
- Edits are over the longer response's length. The printed 0.09–0.15 would mean that two summaries of one
  post share most of their words in order, which is hard to believe; they are plausible if the prompt stood
  before both, as in some copies of the data. ``with_prompt`` normalises so; reports have both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm.data import segments
from llm.data.segments import Segmenter
from theory.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Printed:
    """A row of drdo Table 5: mean confidence, mean edit distance, rows for training and validation."""

    confidence: float
    edit_distance: float
    train: int
    validation: int


TABLE_5 = {
    "all": Printed(5.01, 0.12, 44_709, 86_086),
    "hc_he": Printed(7.31, 0.15, 10_136, 1_127),
    "lc_le": Printed(2.67, 0.09, 10_000, 1_112),
}


@dataclass(frozen=True)
class Distances:
    """Normalised Levenshtein distance of each row's responses, in [0, 1], alone and with the prompt before both."""

    responses: Floats
    with_prompt: Floats


@dataclass(frozen=True)
class Part:
    """A split: rows for training and for validation, indices in ascending order, and the means over both."""

    train: Indices
    validation: Indices
    confidence: float
    edit_distance: float
    edit_distance_with_prompt: float


@dataclass(frozen=True)
class Splits:
    """The three splits, the percentiles between them, and what kept rows out.

    Attributes:
        at_percentile: rows with a confidence that are at one of the percentiles, and so in neither subset.
        confidence_by_choice: mean confidence of the rows whose first, and whose second, summary was preferred.
    """

    parts: dict[str, Part]
    confidence: float
    edit_distance: float
    without_confidence: int
    at_percentile: int
    confidence_by_choice: dict[int, float] = field(default_factory=dict)


def edit_distances(dataset: Dataset, segmenter: Segmenter) -> Distances:
    r"""Distances of chosen and rejected, ``Levenshtein(y_w, y_l) / max(|y_w|, |y_l|)``.

    A prompt before both leaves the distance as it is and adds its length to both, so that
    ``with_prompt`` is ``Levenshtein / (|x| + max(|y_w|, |y_l|))``.
    """
    from rapidfuzz.distance import Levenshtein

    counts = [
        (Levenshtein.distance(chosen, rejected), max(len(chosen), len(rejected)), len(prompt))
        for prompt, chosen, rejected in segments.rows(dataset, ("prompt", "chosen", "rejected"), segmenter)
    ]
    edits, longest, before = np.array(counts, dtype=np.float64).reshape(-1, 3).T
    # Both responses may be without a token (of a tokenizer that drops what it does not know); then they are equal.
    return Distances(edits / np.maximum(longest, 1), edits / np.maximum(longest + before, 1))


def make(
    dataset: Dataset,
    segmenter: Segmenter,
    *,
    seed: int = 0,
    cap: int | None = None,
    with_prompt: bool = False,
    by_prompt: bool = False,
) -> Splits:
    """The splits of a data set.

    Args:
        dataset: preferences with a column ``confidence``.
        segmenter: the tokens that edits are counted in.
        seed: of the division into training and validation.
        cap: most training rows of the two subsets.
        with_prompt: take the distances with the prompt before both responses.
        by_prompt: keep all comparisons of a prompt on one side, so that none is trained and validated on.

    Raises:
        UserError: there is no confidence, or a subset is empty.
    """
    if cap is not None and cap < 1:
        raise UserError("--cap", cap, "must be at least 1")
    confidence = _confidence(dataset)
    distances = edit_distances(dataset, segmenter)
    known = np.flatnonzero(~np.isnan(confidence))
    distance = distances.with_prompt if with_prompt else distances.responses
    chosen, middle = _halves(known, confidence, distance)
    rng = np.random.default_rng(seed)
    groups = _groups(dataset) if by_prompt else None
    parts = {}
    for name, rows in {"all": known, **chosen}.items():
        train, validation = divide(rows, rng, groups, cap if name in chosen else None)
        if not train.size:
            raise UserError("--by-prompt", None, f"leaves {name} no row to train on: its rows have one prompt")
        means = [float(values[rows].mean()) for values in (confidence, distances.responses, distances.with_prompt)]
        parts[name] = Part(train, validation, *means)
    tied = int(((confidence[known] == middle[0]) | (distance[known] == middle[1])).sum())
    return Splits(parts, *middle, len(dataset) - known.size, tied, _by_choice(dataset, confidence))


def divide(
    rows: Indices, rng: np.random.Generator, groups: NDArray[Any] | None = None, cap: int | None = None
) -> tuple[Indices, Indices]:
    """A tenth of the rows, rounded up, for validation and the rest, at most ``cap``, for training.

    With groups, whole groups go to validation until it has a tenth of the rows.
    """
    shuffled = rng.permutation(rows)
    tenth = -(-len(rows) // 10)
    held = np.zeros(len(shuffled), dtype=bool)
    if groups is None:
        held[:tenth] = True
    else:
        _, first, sizes = np.unique(groups[shuffled], return_index=True, return_counts=True)
        order = np.argsort(first)
        before = np.cumsum(sizes[order]) - sizes[order]
        taken = groups[shuffled][first[order][before < tenth]]
        held = np.isin(groups[shuffled], taken)
    return np.sort(shuffled[~held][:cap]), np.sort(shuffled[held])


def _halves(known: Indices, confidence: Floats, distance: Floats) -> tuple[dict[str, Indices], tuple[float, float]]:
    """The rows above both percentiles and those below both, and the percentiles."""
    middle = (float(np.percentile(confidence[known], 50)), float(np.percentile(distance[known], 50)))
    signs = np.sign(confidence[known] - middle[0]), np.sign(distance[known] - middle[1])
    found = {name: known[(signs[0] == sign) & (signs[1] == sign)] for name, sign in (("hc_he", 1), ("lc_le", -1))}
    for (name, rows), words in zip(found.items(), ("above", "below"), strict=True):
        if len(rows) < 2:
            percentiles = f"{words} the 50th percentiles {middle[0]:g} of confidence and {middle[1]:g} of edit distance"
            raise UserError("--data", None, f"its subset {name} would have {len(rows)} rows: at least two must be {percentiles}")
    return found, middle


def _confidence(dataset: Dataset) -> Floats:
    if "confidence" not in dataset.column_names:
        raise UserError("--data", None, "has no column confidence, which these splits are made by")
    values = np.array([np.nan if value is None else value for value in dataset["confidence"][:]], dtype=np.float64)
    if np.isnan(values).all():
        raise UserError("--data", None, "has no row with a confidence, which these splits are made by (try --split validation)")
    return values


def _groups(dataset: Dataset) -> NDArray[Any]:
    ranks: dict[str, int] = {}
    return np.array([ranks.setdefault(repr(prompt), len(ranks)) for prompt in dataset["prompt"][:]], dtype=np.int64)


def _by_choice(dataset: Dataset, confidence: Floats) -> dict[int, float]:
    if "choice" not in dataset.column_names:
        return {}
    choice = np.array(dataset["choice"][:])
    rows = {value: (choice == value) & ~np.isnan(confidence) for value in (0, 1)}
    return {value: float(confidence[mask].mean()) for value, mask in rows.items() if mask.any()}

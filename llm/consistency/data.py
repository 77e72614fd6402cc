"""Comparisons of a finite language by the places of their responses in its table, and batches of them by lookup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theory.errors import UserError
from theory.instances.language import Language, Tokens
from theory.instances.tabular import Array
from theory.sampling import WinCounts
from theory.sampling.responses import draw_labelled

SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Comparisons:
    """Labelled comparisons of different responses: those of `llm.world.texts.preference_table`, in its order.

    Attributes:
        language: whose.
        prompt: x, shape (m,).
        chosen, rejected: indices among `Language.responses`, shape (m,).
    """

    language: Language
    prompt: Tokens
    chosen: Tokens
    rejected: Tokens

    @classmethod
    def draw(cls, language: Language, n: int, seed: int) -> Comparisons:
        """n draws (`draw_labelled`); raises `UserError` if all of them are of a response with itself."""
        data = draw_labelled(language, n, seed)
        if not len(data.draw):
            raise UserError("--n", n, "gave no pair of different responses: take more")
        return cls(language, data.prompt, places(language, data.chosen), places(language, data.rejected))

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def counts(self) -> WinCounts:
        """Their win counts. As in training, a draw of a response with itself is left out of the totals too."""
        shape = (1, self.language.prompts, self.language.vocab, self.language.vocab)
        cells = np.ravel_multi_index((self.prompt, self.chosen, self.rejected), shape[1:])
        wins = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
        return WinCounts(wins, wins.sum((-1, -2)), float(len(self)))

    @property
    def shares(self) -> Array:
        """Each prompt's share of the comparisons, shape (X,)."""
        return np.bincount(self.prompt, minlength=self.language.prompts) / len(self)


def places(language: Language, tokens: Tokens) -> Tokens:
    """The index of each response among `Language.responses`; tokens of shape (N, L), result (N,)."""
    digits = (language.tokens + 1) ** np.arange(language.length)[::-1]  # END = −1 becomes the digit 0
    codes = (language.responses() + 1) @ digits
    order = np.argsort(codes)
    found: Tokens = order[np.searchsorted(codes[order], (tokens + 1) @ digits)]
    return found


class Pairs(torch.utils.data.Dataset[Any]):
    """Comparisons as the trainer's batches: what its collator makes of the rows that `tokenise` and `llm score` make.

    Every sequence of the language is encoded and scored once, and batches point to it; so a million comparisons take no
    time to prepare, and a batch of thousands none to collate.
    """

    def __init__(self, comparisons: Comparisons, sequences: Mapping[str, Tensor], tables: Mapping[str, Array]):
        """Args:
        comparisons: the rows.
        sequences: what a model reads of (x, y) in the order of `all_sequences`, shape (X·V, longest).
        tables: by the column's name with a place for the side (``ref_{}_logps``, ``reward_{}``), shape (X, V), or
            (k, X, V) for an ensemble.
        """
        self.sequences = dict(sequences)
        self.tables = {name: torch.from_numpy(np.ascontiguousarray(t)).float().flatten(-2) for name, t in tables.items()}
        row = comparisons.prompt * comparisons.language.vocab
        self.places = [torch.from_numpy(row + getattr(comparisons, side)) for side in SIDES]

    def __len__(self) -> int:
        return len(self.places[0])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A collated batch [all chosen; all rejected] of these rows, with the ``sequence`` that each line is."""
        rows = torch.as_tensor(indices)
        sides = [place[rows] for place in self.places]
        sequence = torch.cat(sides)
        batch = {name: values[sequence] for name, values in self.sequences.items()}
        for name, table in self.tables.items():
            batch |= {name.format(side): table[..., place] for side, place in zip(SIDES, sides, strict=True)}
        return {**batch, "sequence": sequence}

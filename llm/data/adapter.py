"""What an adapter is: how the rows of one source become rows of a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llm.data.schema import Kind, Row


@dataclass(frozen=True)
class Adapter:
    """A source's schema and its conversion.

    Attributes:
        name: what ``--adapter`` calls it.
        kind: the format of its rows.
        convert: a raw row to a record of that format; raises `Flaw`.
        columns: the columns by which a file of this source is recognised.
        whitespace: what is done to the white space of its texts, a sentence.
        hub_ids: data sets of the Hub that have this schema.
        config: their configuration to load.
        default_split: the split to load if none is asked for.
        aliases: other names of splits.
        within: splits that are rows of another split, told apart by their field ``split``.
        types: Arrow types of further columns that ``convert`` returns; those not named are inferred.
        forgives: kinds of flaws known to occur in the published data; such rows are counted and left
            out, where in a user's own file they would be errors.
        looks_like: what the first row must be like, where the columns alone do not tell.
    """

    name: str
    kind: Kind
    convert: Callable[[Row], Row]
    columns: frozenset[str]
    whitespace: str
    hub_ids: tuple[str, ...] = ()
    config: str | None = None
    default_split: str = "train"
    aliases: Mapping[str, str] = field(default_factory=dict)
    within: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    forgives: frozenset[str] = frozenset()
    looks_like: Callable[[Row], bool] | None = None

    def recognises(self, row: Row) -> bool:
        """Whether a first row has this source's columns and looks."""
        return self.columns <= row.keys() and (self.looks_like is None or self.looks_like(row))

    @property
    def specificity(self) -> tuple[int, bool]:
        """Of several adapters that recognise a row, the one with the largest is taken."""
        return len(self.columns), self.looks_like is not None

"""Records to a ``datasets.Dataset`` with the format's columns and types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm.data.schema import OPTIONAL, Flaw, Kind, Row, check, identity
from theory.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

BATCH = 10_000


class Builder:
    """Checks records and gathers them as Arrow, so that memory holds them once.

    A record without an id gets the hash of its texts; one that repeats an earlier record gets that
    hash and its rank (``…-2``), or is left out where the format says so.

    Attributes:
        repeated: records that repeat an earlier one.
    """

    def __init__(self, kind: Kind, types: Mapping[str, str], source: str):
        self.kind, self.types, self.source = kind, {**types, **OPTIONAL}, source
        self.repeated = 0
        self.rows = 0
        self._seen: Counter[str] = Counter()
        self._given: dict[str, int] = {}
        self._form: type | None = None
        self._batch: list[Row] = []
        self._tables: list[pa.Table] = []

    def add(self, record: Row, row: int) -> None:
        """Take a record; raises `Flaw`."""
        check(record, self.kind)
        form = type(record["prompt"])
        if self._form not in (None, form):
            raise Flaw("type", "prompt", None, "is text where earlier rows have messages, or messages where they have text")
        identifier = self._identifier(record, row)
        if identifier is None:
            return
        self._form = form
        self.rows += 1
        self._batch.append({"id": identifier} | {key: value for key, value in record.items() if key != "id"})
        if len(self._batch) == BATCH:
            self._flush()

    def dataset(self) -> Dataset:
        """The data set; raises `UserError` if a column's values have no common type."""
        import datasets
        import pyarrow as pa

        self._flush()
        try:
            return datasets.Dataset(pa.concat_tables(self._tables, promote_options="permissive"))
        except pa.ArrowException as error:
            raise UserError(f"--data {self.source}", None, f"has a column without one type: {error}") from error

    def _identifier(self, record: Row, row: int) -> str | None:
        given = record.get("id")
        if given is not None:
            if not isinstance(given, str | int) or given == "":
                raise Flaw("type", "id", given, "must be text or a whole number, or the column left out")
            first = self._given.setdefault(str(given), row)
            if first != row:
                raise Flaw("duplicate", "id", given, f"is also the id of row {first}: ids must be unique; leave the column out")
            return str(given)
        digest = identity(record, self.kind)
        self._seen[digest] += 1
        if (count := self._seen[digest]) == 1:
            return digest
        self.repeated += 1
        return None if self.kind.unique else f"{digest}-{count}"

    def _flush(self) -> None:
        if not self._batch:
            return
        import pyarrow as pa

        names = dict.fromkeys(name for name in ("id", *self.kind.texts, *OPTIONAL) if any(name in row for row in self._batch))
        names |= dict.fromkeys(name for row in self._batch for name in row)
        columns = {name: self._column(name, [row.get(name) for row in self._batch]) for name in names}
        self._tables.append(pa.table(columns))
        self._batch = []

    def _column(self, name: str, values: list[Any]) -> Any:
        import pyarrow as pa

        if name == "id" or (name in self.kind.texts and self._form is str):
            return pa.array(values, pa.string())
        if name in self.kind.texts:
            return pa.array(values, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
        try:
            return pa.array(values, pa.type_for_alias(self.types[name]) if name in self.types else None)
        except (pa.ArrowException, TypeError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"--data {self.source}, column {name}", None, f"has values of different types: {reason}") from error

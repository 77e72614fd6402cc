"""Named columns of a CSV, JSON-lines or Parquet file; every mistake in it is one line that names the row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
from numpy.typing import NDArray

from theory.errors import UserError
from theory.instances.tabular import Array

# A row longer than this is read by the slow path (JSON lines) or refused (CSV).
BLOCK = 1 << 24
TEXT = pa.large_string()


@dataclass(frozen=True)
class Columns:
    """Columns of one file, all of one length ≥ 1 and without missing values.

    Attributes:
        argument, path: the option and the file, for error messages.
        data: Arrow arrays by name.
    """

    argument: str
    path: Path
    data: dict[str, Any]

    def error(self, row: int, name: str, value: object, remedy: str) -> UserError:
        """An error in the row of index ``row`` (people count from 1, without the header)."""
        return UserError(self.argument, self.path, f"row {row + 1}: {name} {short(str(value))}: {remedy}")

    def check(self, name: str, valid: NDArray[np.bool_], remedy: str) -> None:
        """Raise `UserError` for the first row that is not valid."""
        if not valid.all():
            row = int(valid.argmin())
            raise self.error(row, name, self.data[name][row].as_py(), remedy)

    def text(self, name: str) -> Any:
        """A column of text or integers, as text (an Arrow array)."""
        column = self.data[name]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        if not (textual or pa.types.is_integer(kind)):
            raise UserError(self.argument, self.path, f"column {name} has type {kind}: it must hold text or integers")
        return column.cast(TEXT)

    def numbers(self, name: str) -> Array:
        """A column of numbers, shape (rows,), float64."""
        column = self.data[name]
        try:
            trimmed = column if pa.types.is_primitive(column.type) else pc.utf8_trim_whitespace(column.cast(TEXT))
            return np.from_dlpack(trimmed.cast(pa.float64(), safe=False)).astype(np.float64)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            valid = np.fromiter((_is_number(value.as_py()) for value in column), bool, len(column))
            self.check(name, valid, "must be a number")
            raise UserError(self.argument, self.path, f"column {name} has type {column.type}: it must hold numbers") from None


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def read_columns(path: str | Path, argument: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> Columns:
    """Read some columns of a file; the others are ignored.

    Args:
        path: a file ending in .csv, .jsonl, .ndjson, .json, .parquet or .pq; text may be gzipped (.gz).
        argument: the option to name in errors.

    Raises:
        UserError: an unknown extension, an unreadable or empty file, a missing column, a malformed
            row or a missing value.
    """
    path = Path(path)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None or (path.suffix == ".gz" and reader is _read_parquet):
        raise UserError(argument, path, "has an unknown extension: give .csv, .jsonl (either may end in .gz) or .parquet")
    source = _Source(path, argument, required, optional)
    try:
        with open(path, "rb") as stream:
            if not stream.read(1):
                raise UserError(argument, path, f"is empty: it needs columns {', '.join(required)}")
        found = reader(source)
    except UnicodeDecodeError:
        raise UserError(argument, path, "is not UTF-8 text") from None
    except (OSError, EOFError) as error:
        raise UserError(argument, path, f"cannot be read: {getattr(error, 'strerror', None) or first_line(error)}") from None
    return source.checked(found)


@dataclass(frozen=True)
class _Source:
    path: Path
    argument: str
    required: tuple[str, ...]
    optional: tuple[str, ...]

    def error(self, remedy: str) -> UserError:
        return UserError(self.argument, self.path, remedy)

    def wanted(self, present: list[str]) -> list[str]:
        """The columns to read of those present; raises `UserError` if a required one is missing or doubled."""
        for name in self.required:
            if name not in present:
                has = ", ".join(short(other, 30) for other in present[:8]) + (", …" if len(present) > 8 else "")
                raise self.error(f"has no column {name} (it has {has}): it needs columns {', '.join(self.required)}")
        known = [name for name in (*self.required, *self.optional) if name in present]
        for name in known:
            if present.count(name) > 1:
                raise self.error(f"has {present.count(name)} columns called {name}: rename all but one")
        return known

    def checked(self, table: Any) -> Columns:
        """The table's columns if there is at least one row and nothing is missing."""
        if not table.num_rows:
            raise self.error("has no rows below its header")
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        for name, column in columns.items():
            if column.null_count:
                row = int(column.is_null().index(True).as_py()) + 1
                raise self.error(f"row {row}: the value of {name} is missing: fill it in or leave the row out")
        return Columns(self.argument, self.path, columns)


def _read_csv(source: _Source) -> Any:
    bad: list[Any] = []

    def refuse(row: Any) -> str:
        bad.append(row)
        return "error"

    parse = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse)
    read = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK)
    try:
        with pa.csv.open_csv(source.path, pa.csv.ReadOptions(use_threads=False), parse) as head:
            names = source.wanted(head.schema.names)
        convert = pa.csv.ConvertOptions(
            include_columns=names,
            column_types=dict.fromkeys(names, TEXT),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        return pa.csv.read_csv(source.path, read, parse, convert)
    except pa.ArrowInvalid as error:
        if bad:
            expected = f"{bad[0].expected_columns} values expected, {bad[0].actual_columns} found"
            where = f"row {bad[0].number - 1}" if bad[0].number else "a row"
            raise source.error(f"{where}: {expected}: {short(bad[0].text)}") from None
        if "UTF8" in str(error):
            raise source.error("is not UTF-8 text") from None
        if "Empty CSV" in str(error):
            raise source.error("has no header and no rows") from None
        raise source.error(f"is not a CSV file: {first_line(error)}") from None


def _read_parquet(source: _Source) -> Any:
    from pyarrow import parquet

    try:
        return parquet.read_table(source.path, columns=source.wanted(parquet.read_schema(source.path).names))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise source.error("is not a readable Parquet file") from None


def _read_json(source: _Source) -> Any:
    """JSON lines by Arrow's parser; what it refuses, by Python's, which names the row."""
    with _open_text(source.path) as stream:
        try:
            first = json.loads(next((line for line in stream if line.strip()), ""))
        except ValueError:
            first = None
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    if isinstance(first, dict):
        names = source.wanted(list(first))
        if all(type(first[name]) in kinds for name in names):
            fields = [(name, kinds[type(first[name])]) for name in names]
            fields += [(name, pa.string()) for name in source.optional if name not in first]
            parse = pa.json.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore")
            try:
                table = pa.json.read_json(source.path, pa.json.ReadOptions(block_size=BLOCK), parse)
                return table.select(
                    [*names, *(n for n in table.column_names if n not in names and table[n].null_count < len(table))]
                )
            except pa.ArrowInvalid:
                pass
    return _read_json_slowly(source)


def _read_json_slowly(source: _Source) -> Any:
    columns: dict[str, list[Any]] = {name: [] for name in (*source.required, *source.optional)}
    seen: dict[str, None] = {}
    rows = 0
    for rows, record in enumerate(_records(source), start=1):
        if not isinstance(record, dict):
            raise source.error(f"row {rows}: {short(json.dumps(record))} is not an object such as " + '{"context": …}')
        for name, column in columns.items():
            column.append(record.get(name))
        seen.update(dict.fromkeys(record))
    if not rows:
        raise source.error("has no rows")
    return pa.table({name: _from_python(source, name, columns[name]) for name in source.wanted(list(seen))})


def _from_python(source: _Source, name: str, values: list[Any]) -> Any:
    for row, value in enumerate(values, start=1):
        numeric = name in source.optional and isinstance(value, float)
        if isinstance(value, bool) or not (value is None or numeric or isinstance(value, str | int)):
            raise source.error(f"row {row}: {name} {short(json.dumps(value))}: must be text or an integer")
    return pa.array([None if value is None else str(value) for value in values], TEXT)


def _records(source: _Source) -> Iterator[Any]:
    with _open_text(source.path) as stream:
        first = next((line for line in stream if line.strip()), "")
        stream.seek(0)
        if first.lstrip().startswith("["):
            try:
                yield from json.load(stream)
            except ValueError as error:
                raise source.error(f"is not valid JSON: {error}") from None
            return
        for row, line in enumerate((line for line in stream if line.strip()), start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise source.error(f"row {row}: {short(line.strip())} is not valid JSON: {error.msg}") from None


def _open_text(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else open(path, encoding="utf-8-sig")


def first_line(error: Exception) -> str:
    """The first line of an error's message, without a trailing period."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def short(text: str, limit: int = 60) -> str:
    """A value on one line, quoted, cut to ``limit`` characters."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


_READERS: dict[str, Callable[[_Source], Any]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
}

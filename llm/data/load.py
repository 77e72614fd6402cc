"""From a hub id or a local path to a data set of one format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm.data import adapters, files, hub
from llm.data.adapter import Adapter
from llm.data.build import Builder
from llm.data.schema import DEMONSTRATIONS, PREFERENCES, PROMPTS, Flaw, Kind, Row
from theory.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+(:[\w.-]+)?")


@dataclass(frozen=True)
class Loaded:
    """A data set and how it was read.

    Attributes:
        rows: rows of the source that were read.
        dropped: rows left out, by the kind of their flaw.
        repeated: rows that repeat an earlier one.
    """

    dataset: Dataset
    kind: Kind
    source: str
    adapter: Adapter
    split: str | None
    rows: int
    repeated: int
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def provenance(self) -> dict[str, Any]:
        """What a file made of this data set records."""
        return {"source": self.source, "adapter": self.adapter.name, "source_split": self.split, "dropped": self.dropped}


@dataclass(frozen=True)
class _Origin:
    """Raw rows of one split; where ``within``, only records whose own split is this."""

    adapter: Adapter
    split: str
    rows: files.Rows
    within: bool


def load_preferences(
    source: str | Path,
    *,
    split: str | None = None,
    adapter: str | None = None,
    limit: int | None = None,
    drop_invalid: bool | None = None,
) -> Dataset:
    """Preferences of a hub id (``owner/name`` or ``owner/name:configuration``) or of a local file or folder.

    Columns: ``id``, ``prompt``, ``chosen``, ``rejected``, then ``confidence``, ``worker``, ``split`` and others
    of the source where it has them.

    Args:
        source: the hub id or path.
        split: the split to read; by default the adapter's, or the only one.
        adapter: the adapter's name; by default the one registered for the hub id, else found by columns.
        limit: stop after so many rows of the result.
        drop_invalid: leave out rows that are no comparison. By default only those with flaws that the
            adapter's published data are known to have; any other is an error.

    Raises:
        UserError: naming the row and field of what is wrong, or what cannot be found.
    """
    loaded = load(source, PREFERENCES, split=split, adapter=adapter, limit=limit, drop_invalid=drop_invalid)
    return loaded.dataset


def load_demonstrations(source: str | Path, **options: Any) -> Dataset:
    """Columns ``id``, ``prompt``, ``completion``, of preferences the chosen response. See `load_preferences`."""
    return load(source, DEMONSTRATIONS, **options).dataset


def load_prompts(source: str | Path, **options: Any) -> Dataset:
    """Columns ``id`` and ``prompt``, each prompt once, of a source of any kind. See `load_preferences`."""
    return load(source, PROMPTS, **options).dataset


def load(
    source: str | Path,
    kind: Kind | None = PREFERENCES,
    *,
    split: str | None = None,
    adapter: str | None = None,
    limit: int | None = None,
    drop_invalid: bool | None = None,
) -> Loaded:
    """A data set of a format (None: of the source's own) with an account of its reading; otherwise as `load_preferences`."""
    name = str(source)
    if limit is not None and limit < 1:
        raise UserError("--limit", limit, "must be at least 1")
    origin = _origin(name, split, adapters.named(adapter) if adapter else None)
    kind = kind or origin.adapter.kind
    builder = Builder(kind, origin.adapter.types, name)
    dropped: Counter[str] = Counter()
    others: set[str] = set()
    number = 0
    for number, row in origin.rows:
        try:
            record = origin.adapter.convert(row)
            if origin.split:
                record["split"] = record.get("split") or origin.split
            if origin.within and record.get("split") != split:
                others.add(str(record.get("split")))
                continue
            builder.add(_as(record, origin.adapter.kind, kind, name), number)
        except Flaw as flaw:
            if drop_invalid is False or not (drop_invalid or flaw.kind in origin.adapter.forgives):
                raise flaw.error(name, number) from None
            dropped[flaw.kind] += 1
        if builder.rows == limit:
            break
    if not builder.rows:
        raise _nothing(name, split, number, others)
    used = split if origin.within else origin.split or None
    return Loaded(builder.dataset(), kind, name, origin.adapter, used, number, builder.repeated, dict(dropped))


def _as(record: Row, have: Kind, want: Kind, source: str) -> Row:
    """A record of one format as one of another, where that is possible."""
    if have is want:
        return record
    if want is DEMONSTRATIONS and have is PREFERENCES:
        return {"prompt": record["prompt"], "completion": record["chosen"]}
    if want is PROMPTS:
        reference = {"reference": record["completion"]} if have is DEMONSTRATIONS else {}
        return {"prompt": record["prompt"]} | reference
    raise UserError("--data", source, f"holds {have.name}, not {want.name}")


def _nothing(source: str, split: str | None, rows: int, others: set[str]) -> UserError:
    if others:
        return UserError("--split", split, f"has no row in {source}; found {', '.join(sorted(others))}")
    return UserError("--data", source, "has no row that can be used" if rows else "has no rows")


def _origin(source: str, split: str | None, adapter: Adapter | None) -> _Origin:
    path = Path(source)
    if path.exists():
        return _local(path, split, adapter)
    if not _HUB_ID.fullmatch(source) or path.suffix in (".jsonl", ".json", ".csv", ".parquet", ".arrow"):
        raise UserError("--data", source, "does not exist: give a file, a folder or a hub id such as owner/name")
    return _hub(source, split, adapter)


def _local(path: Path, split: str | None, adapter: Adapter | None) -> _Origin:
    available = files.splits(path)
    chosen = next(iter(available))
    if adapter is None:
        adapter = adapters.recognise(str(path), _first(files.read(available[chosen][0]), str(path)))
    chosen, within = _choose(list(available), split, adapter)
    # Rows of several files are numbered through.
    rows = enumerate((row for file in available[chosen] for _, row in files.read(file)), 1)
    return _Origin(adapter, chosen, rows if len(available[chosen]) > 1 else files.read(available[chosen][0]), within)


def _hub(source: str, split: str | None, adapter: Adapter | None) -> _Origin:
    hub_id, _, config = source.partition(":")
    adapter = adapter or adapters.for_hub(hub_id)
    if adapter is None:
        found = hub.load(hub_id, config or None, split)
        adapter = adapters.recognise(source, _first(files.rows_of(next(iter(found.values()))), source))
        chosen, within = _choose(list(found), split, adapter)
        return _Origin(adapter, chosen, files.rows_of(found[chosen]), within)
    chosen = adapter.default_split if split is None else adapter.aliases.get(split, adapter.within.get(split, split))
    found = hub.load(hub_id, config or adapter.config, chosen)
    return _Origin(adapter, chosen, files.rows_of(found[chosen]), split in adapter.within)


def _choose(available: list[str], split: str | None, adapter: Adapter) -> tuple[str, bool]:
    """The split of the source to read, and whether only those rows count whose own field names the split asked for."""
    if split is None:
        for name in (adapter.default_split, "train"):
            if name in available:
                return name, False
        if len(available) > 1:
            raise UserError("--split", None, f"is needed: there are {', '.join(available)}")
        return available[0], False
    if split in available:
        return split, False
    if adapter.aliases.get(split) in available:
        return adapter.aliases[split], False
    if adapter.within.get(split) in available:
        return adapter.within[split], True
    if available == [""]:
        return "", True
    raise UserError("--split", split, nearest(split, available))


def _first(rows: Iterator[tuple[int, Row]], source: str) -> Row:
    for _, row in rows:
        return row
    raise UserError("--data", source, "has no rows")

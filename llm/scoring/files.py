"""Files of scores: what is in them and how they are read and written.

A file is Parquet with a row a pair: ``id``, ``content`` (digest of its texts) and either
``ref_chosen_logps`` and ``ref_rejected_logps`` or ``reward_chosen`` and ``reward_rejected``
(lists, one number a model, where there are several). A null says that the prompt fills the length limit.
The schema's metadata say what the scores depend on. Scores computed elsewhere join too, if their file has
``id`` and one of the two pairs of columns.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llm.data.scores import LOGPS, REWARDS
from theory.errors import UserError
from theory.files import write_whole, writing

COLUMNS = {"reference": LOGPS, "reward": REWARDS}
_METADATA = b"prefproof.scores"


@dataclass(frozen=True)
class Provenance:
    """What a file of scores depends on.

    Attributes:
        kind: ``reference`` or ``reward``.
        models: as they were named.
        weights, tokenizers: a digest a model.
        data: of the rows' ids and texts.
        max_length: of prompt and completion, tokens.
        dtype: of the models' weights.
        versions: of the libraries; they explain a difference in the last digits and decide nothing.
    """

    kind: str
    models: tuple[str, ...]
    weights: tuple[str, ...]
    tokenizers: tuple[str, ...]
    data: str
    max_length: int | None
    dtype: str
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What decides the numbers, as one line: equal keys, equal scores."""
        return json.dumps([self.kind, self.weights, self.tokenizers, self.data, self.max_length, self.dtype])

    def difference(self, other: Provenance) -> str:
        """The first thing in which two files differ, in words."""
        words = {"weights": "model", "tokenizers": "tokenizer or chat template", "data": "data", "max_length": "--max-length"}
        names = ("kind", "weights", "tokenizers", "data", "max_length", "dtype")
        first = next(name for name in names if getattr(self, name) != getattr(other, name))
        return words.get(first, "--" + first)

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str | bytes) -> Provenance:
        """From `dumps`."""
        values = json.loads(text)
        fields: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**fields)


@dataclass(frozen=True)
class Scores:
    """A file of scores in memory; ``provenance`` is None where it was made elsewhere."""

    path: Path
    table: pa.Table
    provenance: Provenance | None

    @property
    def kind(self) -> str:
        """``reference`` or ``reward``, as its columns say; raises `UserError`."""
        found = [kind for kind, columns in COLUMNS.items() if set(columns) <= set(self.table.column_names)]
        if "id" not in self.table.column_names or len(found) != 1:
            pairs = " or ".join(" and ".join(columns) for columns in COLUMNS.values())
            raise UserError("--scores", self.path, f"needs the columns id and either {pairs}")
        return found[0]


def read(path: str | Path) -> Scores:
    """A file of scores; raises `UserError` if it is none."""
    path = Path(path)
    try:
        table = pq.read_table(path)
        text = (table.schema.metadata or {}).get(_METADATA)
        return Scores(path, table, Provenance.loads(text) if text else None)
    except FileNotFoundError as error:
        raise UserError("--scores", path, "there is no such file: make it with llm score") from error
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise UserError("--scores", path, "is no complete Parquet file of scores: make it with llm score") from error


def write(path: Path, table: pa.Table, provenance: Provenance) -> None:
    """A file of scores, whole or not at all; raises `UserError` if it cannot be written."""
    table = table.replace_schema_metadata({_METADATA: provenance.dumps().encode()})
    with writing("--out", path):
        write_whole(path, lambda partial: pq.write_table(table, partial))

"""Results on disk: one Parquet file a chunk, whole or not there at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from theory.errors import UserError
from theory.files import write_whole, writing

MANIFEST = "sweep.json"
PARTS = "parts"


class Store:
    """A directory of results that many processes may fill at once.

    A part is written under a temporary name and renamed, which is atomic, so a killed process
    leaves at most a temporary file, and two processes that compute the same chunk write the same
    rows to the same name.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.parts = self.root / PARTS

    def open(self, manifest: dict[str, Any]) -> None:
        """Create the directory, or check that it holds a sweep of the same instance and seed.

        Raises:
            UserError: it cannot be written, or it belongs to another sweep.
        """
        with writing("--out", self.root):
            self.parts.mkdir(parents=True, exist_ok=True)
            if not (self.root / MANIFEST).exists():
                write_whole(self.root / MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=2)))
            with tempfile.TemporaryFile(dir=self.parts):
                pass
        found = self.manifest()
        for key in ("instance_digest", "seed"):
            if found.get(key) != manifest[key]:
                raise UserError("--out", self.root, f"holds a sweep with another {key.split('_')[0]}: choose a new directory")

    def manifest(self) -> dict[str, Any]:
        """The configuration beside the results; raises `UserError` if there is none or it is broken."""
        try:
            return json.loads((self.root / MANIFEST).read_text())
        except OSError as error:
            raise UserError("DIR", self.root, "holds no sweep: make one with theory sweep --out") from error
        except ValueError as error:
            raise UserError("DIR", self.root / MANIFEST, "is not readable: delete it and run theory sweep again") from error

    def has(self, name: str) -> bool:
        """Whether a part is there and complete (a Parquet file ends with its own index)."""
        path = self.parts / name
        if not path.exists():
            return False
        try:
            pq.read_metadata(path)
        except (pa.ArrowInvalid, OSError):
            return False
        return True

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name, complete or not."""
        return (self.parts / name).exists()

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Store a chunk's rows."""
        table = pa.Table.from_pylist(rows)
        write_whole(self.parts / name, lambda path: pq.write_table(table, path))

    def read(self, names: Iterable[str] | None = None) -> pa.Table:
        """All rows, or those of some parts.

        Raises:
            UserError: there are none, or a file is broken (half-written by something else).
        """
        paths = sorted(self.parts.glob("*.parquet")) if names is None else [self.parts / name for name in names]
        if not paths:
            raise UserError("DIR", self.root, "holds no results yet: run theory sweep --out on it")
        tables = []
        for path in paths:
            try:
                tables.append(pq.read_table(path))
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(
                    "DIR", path, "is not a complete results file: run the same theory sweep again to recompute it"
                ) from error
        return pa.concat_tables(tables, promote_options="permissive")

"""Finished chunks of an unfinished file of scores."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pyarrow as pa

from llm.scoring.files import Provenance, read, write
from theory.errors import UserError
from theory.files import writing


class Parts:
    """A folder beside the file to come, with a file a chunk and model, each whole or not there."""

    def __init__(self, out: Path, provenance: Provenance):
        self.folder, self.provenance = out.with_name(out.name + ".parts"), provenance

    def read(self, member: int, start: int) -> pa.Table | None:
        """A model's chunk, or None if it is still to be computed; raises `UserError` if it is of other scores."""
        path = self._path(member, start)
        if not path.exists():
            return None
        try:
            found = read(path)
        except UserError:  # broken by something else: compute it again
            return None
        refuse_other(self.folder, found.provenance, self.provenance)
        return found.table

    def write(self, member: int, start: int, table: pa.Table) -> None:
        """Keep a chunk; raises `UserError` if the disk refuses."""
        with writing("--out", self.folder):
            self.folder.mkdir(exist_ok=True)
        write(self._path(member, start), table, self.provenance)

    def remove(self) -> None:
        """Delete the chunks, and the folder if nothing else is in it."""
        for path in self.folder.glob("*-*.parquet"):
            path.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _path(self, member: int, start: int) -> Path:
        return self.folder / f"{member:02d}-{start:010d}.parquet"


def refuse_other(path: Path, found: Provenance | None, wanted: Provenance) -> None:
    """Raise `UserError` where scores on disk are not the ones that are asked for."""
    if found is None or found.key != wanted.key:
        what = "scores made elsewhere" if found is None else f"scores with another {wanted.difference(found)}"
        raise UserError("--out", path, f"holds {what}: choose another file, or delete it")

"""What a folder of pictures knows about them: one JSON file a figure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from theory.cli.console import plain
from theory.files import write_whole


@dataclass(frozen=True)
class Record:
    """How a figure's pictures were made.

    Attributes:
        figure, title, source, caption: for readers.
        fast: whether they show less work than the figure means.
        config: that the data were computed for.
        key: of the data.
        drawing: of the code that drew them.
        version: of this project.
        width: inches at print size.
        files: the pictures' names, with a hash of each.
    """

    figure: str
    title: str
    source: str
    caption: str
    fast: bool
    config: dict[str, Any]
    key: str
    drawing: str
    version: str
    width: float
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        """Put it into the folder as ``NAME.json``, with the caption as ``NAME.txt`` beside it."""
        text = json.dumps(plain(asdict(self)), indent=1, ensure_ascii=False) + "\n"
        write_whole(caption_file(folder, self.figure), lambda path: path.write_text(self.caption + "\n", encoding="utf-8"))
        write_whole(folder / f"{self.figure}.json", lambda path: path.write_text(text, encoding="utf-8"))

    def holds(self, file: Path) -> bool:
        """Whether a picture is still the one that was made."""
        return file.name in self.files and hash_of(file) == self.files[file.name]

    def captioned(self, folder: Path) -> bool:
        """Whether the caption still lies beside it."""
        try:
            return caption_file(folder, self.figure).read_text(encoding="utf-8") == self.caption + "\n"
        except (OSError, ValueError):
            return False

    def same_picture(self, other: Record) -> bool:
        """Whether both are of one table drawn by one code."""
        return (self.figure, self.key, self.drawing) == (other.figure, other.key, other.drawing)


def read(folder: Path, name: str) -> Record | None:
    """The record of a figure; None if there is none, or what is there is no record."""
    try:
        record = Record(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    words = [getattr(record, field.name) for field in fields(Record) if field.type == "str"]
    sound = all(isinstance(word, str) for word in words) and isinstance(record.files, dict) and record.figure == name
    return record if sound else None


def read_all(folder: Path) -> list[Record]:
    """Every record in a folder, by name."""
    found = (read(folder, path.stem) for path in sorted(folder.glob("*.json")))
    return [record for record in found if record is not None]


def caption_file(folder: Path, name: str) -> Path:
    """Where a figure's caption lies."""
    return folder / f"{name}.txt"


def hash_of(path: Path) -> str | None:
    """A hash of a file's bytes; None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return None

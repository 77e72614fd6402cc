"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from theory.errors import UserError


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name beside it and rename it, which is atomic.

    Whoever reads ``path`` finds the old file or the new one. A killed process leaves at most a file whose hidden
    name ends in ``.tmp``; any exception leaves nothing.

    Args:
        path: the file; its folder must exist.
        write: makes the file that it is given.

    Raises:
        OSError: the folder or the disk refuses; and whatever ``write`` raises.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)  # temporary files are their owner's alone
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def writing(argument: str, path: str | Path) -> Iterator[None]:
    """Say in one line, as `UserError`, that the folder or the disk refuses what is written to ``path``."""
    try:
        yield
    except OSError as error:
        raise UserError(argument, path, f"cannot be written: {error.strerror or error}") from error

"""The output directory of a run: what may be in it, where to go on from, and the record beside the weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from theory.errors import UserError

RECORD = "run.json"
# What a run that goes on cannot change.
SAME = ("method", "hyperparameters", "annealed", "logp", "kl", "gamma", "model")


def checkpoint(resume: str | None, out: Path) -> str | None:
    """The checkpoint to go on from, None for a new run; nothing is overwritten.

    Args:
        resume: ``auto`` for the newest whole checkpoint in ``out``, a checkpoint's folder, or None.
        out: the output directory.

    Raises:
        UserError: ``out`` holds another run, or there is nothing to go on from.
    """
    found = _newest(out) if resume == "auto" else resume
    within = found is not None and Path(found).absolute().parent == out.absolute()
    if out.exists() and not out.is_dir():
        raise UserError("--output-dir", out, "is a file: give a directory")
    if resume == "auto" and found is None:
        raise UserError(
            "--resume", "auto", f"{out} has no whole checkpoint: start anew in another directory, with --save-strategy steps"
        )
    if found is not None and not (Path(found) / "trainer_state.json").is_file():
        raise UserError("--resume", found, "is no checkpoint's folder: give one, or auto")
    if not within and out.exists() and any(out.iterdir()):
        raise UserError("--output-dir", out, "holds another run: give another directory, or --resume auto")
    return found


def _newest(out: Path) -> str | None:
    """The checkpoint with most steps; one that was cut short has no state, which is written last."""
    steps = {int(path.parent.name.rpartition("-")[2]): path.parent for path in out.glob("checkpoint-*[0-9]/trainer_state.json")}
    return str(steps[max(steps)]) if steps else None


def same_run(out: Path, record: dict[str, Any]) -> None:
    """Raise `UserError` if the directory holds a run that differs in `SAME` from the one that this record is of."""
    there = read(out)
    for name in SAME if there else ():
        if there.get(name) != json.loads(json.dumps(record[name])):
            remedy = (
                f"holds a run with {name} {there.get(name)}, not {record[name]}: go on with the same, or give another directory"
            )
            raise UserError("--output-dir", out, remedy)


def read(out: Path) -> dict[str, Any]:
    """The record in a directory, empty if there is none; of a run that ended it has ``steps``."""
    if not (out / RECORD).is_file():
        return {}
    found: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
    return found


def write(out: Path, record: dict[str, Any]) -> None:
    """Write the record, whole or not at all."""
    partial = out / f"{RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    partial.replace(out / RECORD)


@contextmanager
def writable(out: Path) -> Iterator[None]:
    """Say in one line that the directory, or the disk, cannot be written to."""
    try:
        yield
    except OSError as error:
        raise UserError("--output-dir", out, f"cannot be written: {error.strerror or error}") from error

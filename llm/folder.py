"""The output directory of a run: what may be in it, where to go on from, and the record beside the weights."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from theory.errors import UserError
from theory.files import write_whole

RECORD, SCORES = "run.json", "scores"
# Written last into a checkpoint's folder.
STATE = "trainer_state.json"
# What a run that goes on cannot change.
SAME = ("method", "hyperparameters", "annealed", "logp", "kl", "gamma", "model")


def checkpoint(resume: str | None, out: Path, say: Callable[[str], None] = lambda text: None) -> str | None:
    """The checkpoint to go on from, None to start from the beginning; no result is overwritten.

    Args:
        resume: ``auto`` for the newest whole checkpoint in ``out``, a checkpoint's folder, or None. A run that was
            stopped before it had one starts again, on the scores that it has.
        out: the output directory.
        say: told what is passed by.

    Raises:
        UserError: ``out`` holds another run, or there is nothing to go on from.
    """
    if out.exists() and not out.is_dir():
        raise UserError("--output-dir", out, "is a file: give a directory")
    if resume == "auto":
        found = _newest(out, say)
        if found is None:
            _check_unfinished(out)
            say("no whole checkpoint: from the beginning")
        return found
    if resume is not None:
        _refuse_broken(Path(resume))
        if Path(resume).absolute().parent == out.absolute():
            return resume
    if contents(out):
        raise UserError("--output-dir", out, "holds another run: give another directory, or --resume auto")
    return resume


def contents(out: Path) -> set[str]:
    """The names of what is in a directory, without what an interrupted write left."""
    return {path.name for path in out.iterdir() if path.suffix != ".tmp"} if out.is_dir() else set()


def _newest(out: Path, say: Callable[[str], None]) -> str | None:
    """The whole checkpoint with most steps."""
    steps = {int(path.name.rpartition("-")[2]): path for path in out.glob("checkpoint-*[0-9]")}
    for step in sorted(steps, reverse=True):
        broken = _broken(steps[step])
        if broken is None:
            return str(steps[step])
        say(f"{steps[step].name} is passed by: {broken}")
    return None


def _check_unfinished(out: Path) -> None:
    """Raise `UserError` unless a run was stopped here before its first checkpoint: then nothing here is a result."""
    record = read(out)
    if "steps" in record or not (record or contents(out) == {SCORES}):
        remedy = f"{out} has no whole checkpoint: start anew in another directory, with --save-strategy steps"
        raise UserError("--resume", "auto", remedy)


def _refuse_broken(folder: Path) -> None:
    """Raise `UserError` for a folder that is no whole checkpoint."""
    if not (folder / STATE).is_file():
        raise UserError("--resume", folder, "is no checkpoint's folder: give one, or auto")
    if (broken := _broken(folder)) is not None:
        raise UserError("--resume", folder, f"was cut short, {broken}: give another, or auto")


def _broken(folder: Path) -> str | None:
    """What is missing or cut short in a checkpoint; None if it is whole.

    Weights and optimisers are not read: where they end says whether they are whole.
    """
    if not (folder / STATE).is_file():
        return f"{STATE} is missing"
    for path in sorted(folder.rglob("*")):
        if not _WHOLE.get(path.suffix, lambda path: True)(path):
            return f"{path.relative_to(folder)} is not whole"
    for index in folder.glob("*.index.json"):
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(part for part in parts if not (folder / part).is_file()):
            return f"{missing[0]} is missing"
    return None


def _whole_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _whole_weights(path: Path) -> bool:
    try:
        with safe_open(path, framework="numpy"):  # compares the file's length with its header
            return True
    except SafetensorError:
        return False


# By a file's ending, whether it is whole; what torch saves is a zip archive, whose index stands at its end.
_WHOLE: dict[str, Callable[[Path], bool]] = {
    ".json": _whole_json,
    ".safetensors": _whole_weights,
    **dict.fromkeys((".pt", ".pth", ".bin"), zipfile.is_zipfile),
}


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
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n"
    write_whole(out / RECORD, lambda path: path.write_text(text, encoding="utf-8"))

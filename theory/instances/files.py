"""Instances as ``.npz`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from theory.errors import UserError
from theory.files import write_whole, writing
from theory.instances.tabular import Instance

_OPTIONAL = ("data_policy", "context_weights", "features")


def save_npz(path: str | Path, arrays: dict[str, object], argument: str = "--out") -> None:
    """Write arrays to ``path`` whole or not at all; raises `UserError` if it cannot be written."""

    def write(partial: Path) -> None:
        with partial.open("wb") as stream:  # given a name, numpy would add an ending of its own
            np.savez(stream, **arrays)  # type: ignore[arg-type]

    with writing(argument, path):
        write_whole(Path(path), write)


def load_npz(path: str | Path, argument: str = "--instance") -> dict[str, Any]:
    """Every array of a file, by name; raises `UserError` if it is missing or is not an ``.npz`` of numbers."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except OSError as error:
        raise UserError(argument, path, error.strerror or "cannot be read") from error
    except Exception as error:  # a damaged file raises errors of zipfile, zlib, numpy and the interpreter
        raise UserError(argument, path, "is not a readable .npz file of numbers") from error


def save_instance(instance: Instance, path: str | Path) -> None:
    """Write an instance; ``load_instance`` reads it back exactly."""
    arrays: dict[str, object] = {"target": instance.target, "reference": instance.reference, "gamma": instance.gamma}
    arrays |= {name: getattr(instance, name) for name in _OPTIONAL if getattr(instance, name) is not None}
    save_npz(path, arrays)


def load_instance(path: str | Path) -> Instance:
    """Read and validate an instance (arrays ``target``, ``reference``, scalar ``gamma``; see `Instance`).

    Raises:
        UserError: the file is missing, is not an ``.npz``, lacks an array, or fails validation.
    """
    arrays = load_npz(path)
    for name in ("target", "reference", "gamma"):
        if name not in arrays:
            raise UserError("--instance", path, f"has no array {name}; it needs target, reference and gamma")
    known = {name: arrays[name] for name in _OPTIONAL if name in arrays}
    try:
        return Instance(arrays["target"], arrays["reference"], gamma=arrays["gamma"], name=str(path), **known)
    except UserError as error:
        raise UserError(f"--instance {path}, {error.argument}", error.value, error.remedy) from error

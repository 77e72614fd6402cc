"""Languages as ``.npz`` files, which `load_instance` reads too as long as all responses can be listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from theory.errors import UserError
from theory.instances.files import load_npz, save_npz
from theory.instances.language import Language

_PREFIX = "language_"
_SCALARS = ("length", "order", "eos")


def save_language(language: Language, path: str | Path, argument: str = "--out") -> None:
    """Write a language; ``load_language`` reads it back exactly, `load_instance` its table.

    The language's own arrays stand beside those of the instance, under names that begin with ``language_``.
    Where there are too many responses to list, the file holds the language alone.

    Raises:
        UserError: the file cannot be written.
    """
    arrays: dict[str, object] = {"gamma": language.gamma}
    if language.enumerable:
        instance = language.instance()
        arrays |= {"target": instance.target, "reference": instance.reference}
    own = ("target", "reference", *_SCALARS)
    save_npz(path, arrays | {_PREFIX + name: getattr(language, name) for name in own}, argument)


def is_language(path: str | Path) -> bool:
    """Whether a file holds a language; of one that cannot be read, `load_instance` says what is wrong."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return f"{_PREFIX}target" in stored.files
    except Exception:  # a damaged file raises errors of zipfile, zlib, numpy and the interpreter
        return False


def load_language(path: str | Path, argument: str = "--instance") -> Language:
    """Read and validate a language.

    Raises:
        UserError: the file is missing, is not an ``.npz``, holds no language, fails validation, or holds a table that
            is not this language's.
    """
    arrays = load_npz(path, argument)
    needed = [_PREFIX + name for name in ("target", "reference", *_SCALARS)] + ["gamma"]
    for name in needed:
        if name not in arrays:
            raise UserError(argument, path, f"holds no language (no array {name}); make one: theory instance new FILE --language")
    try:
        length, order, eos, gamma = (arrays[name].item() for name in needed[2:])
        language = Language(
            arrays[needed[0]], arrays[needed[1]], length=length, order=order, eos=bool(eos), gamma=float(gamma), name=str(path)
        )
        _same_table(language, arrays)
    except UserError as error:
        raise UserError(f"{argument} {path}, {error.argument}", error.value, error.remedy) from error
    except (TypeError, ValueError) as error:
        raise UserError(argument, path, "length, order, eos and gamma of a language must each be one number") from error
    return language


def _same_table(language: Language, arrays: dict[str, np.ndarray]) -> None:
    """A table that was edited would make the two readers of one file disagree."""
    if not language.enumerable:
        return
    instance = language.instance()
    for name in ("target", "reference"):
        stored = arrays.get(name)
        if stored is None or stored.shape != getattr(instance, name).shape or not np.allclose(stored, getattr(instance, name)):
            raise UserError(name, None, "is not the table of the language beside it; write the file anew")

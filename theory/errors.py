"""The one error that a user's input can cause."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """Bad input: one line that names the argument, the value and the remedy.

    Commands print it after ``error:`` and exit with code 2; library callers catch it as a
    `ValueError`.
    """

    def __init__(self, argument: str, value: object, remedy: str):
        self.argument, self.value, self.remedy = argument, value, remedy
        super().__init__(f"{argument} {value}: {remedy}" if value is not None else f"{argument}: {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is unpickled from its message alone, and so would not survive the way between processes.
        return type(self), (self.argument, self.value, self.remedy)


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names the known word closest to ``name``, or all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(words)}"

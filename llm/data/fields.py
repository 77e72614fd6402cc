"""Typed access to the fields of a raw row, with dotted names for nested ones."""

from __future__ import annotations

import math
from typing import Any

from llm.data.schema import Flaw, Row, is_number


def required(row: Row, name: str) -> Any:
    """The value of a field such as ``info.post``; raises `Flaw` if it or its parent is missing or null."""
    value = _find(row, name)
    if value is None:
        raise Flaw("missing", name, None, "is missing")
    return value


def text(row: Row, name: str) -> str:
    """A required field that is text; raises `Flaw`."""
    return _as_text(required(row, name), name)


def optional_text(row: Row, name: str) -> str | None:
    """A field that is text, missing or null; raises `Flaw`."""
    value = _find(row, name)
    return None if value is None else _as_text(value, name)


def optional_number(row: Row, name: str) -> float | None:
    """A field that is a finite number, its text (CSV), missing or null; raises `Flaw`."""
    value = _find(row, name)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Flaw("type", name, value, "must be a number or null") from None
    if not is_number(value):
        raise Flaw("type", name, value, "must be a number or null")
    if not math.isfinite(value):
        raise Flaw("nan", name, value, "must be finite; leave it null where there is none")
    return float(value)


def _find(row: Row, name: str) -> Any:
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _as_text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    kind = "nan" if isinstance(value, float) and math.isnan(value) else "type"
    raise Flaw(kind, name, value, f"must be text, not {type(value).__name__}")

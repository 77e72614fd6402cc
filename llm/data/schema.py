"""The formats that training reads, and what makes a row unfit for them.

A **preference** row has ``id`` (unique, stable), ``prompt``, ``chosen`` and ``rejected``: all text, or
all lists of messages ``{"role", "content"}`` of which ``chosen`` and ``rejected`` hold the
assistant's turns only. It may have ``confidence`` (float), ``worker`` and ``split``, and any further
columns. A **demonstration** has ``prompt`` and ``completion``; a **prompt** row has ``prompt``.

Rows are counted from 1, so that the row of a JSONL file is its line.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from theory.errors import UserError

Row = dict[str, Any]

# What completions may consist of: an answer, or an answer with calls of tools and their results.
REPLY_ROLES = ("assistant", "tool")
ROLES = ("system", "user", *REPLY_ROLES)


@dataclass(frozen=True)
class Kind:
    """A format.

    Attributes:
        texts: the required columns; those after the prompt are completions.
        unique: whether a row that repeats another one is left out. It never is where repetition
            carries information: two workers' labels of one pair are two observations.
    """

    name: str
    texts: tuple[str, ...]
    unique: bool = False


PREFERENCES = Kind("preferences", ("prompt", "chosen", "rejected"))
DEMONSTRATIONS = Kind("demonstrations", ("prompt", "completion"))
PROMPTS = Kind("prompts", ("prompt",), unique=True)

# Optional columns and their Arrow types.
OPTIONAL = {"confidence": "float64", "worker": "string", "split": "string"}


class Flaw(ValueError):
    """What is wrong with one row.

    Attributes:
        kind: what rows are counted by when they are dropped: missing, type, empty, equal, nan,
            turns, choice, format or duplicate.
        field: the field, dotted where it is nested.
        value: the field's value, or None where it says nothing.
        remedy: what is wrong with it and what to do.
    """

    def __init__(self, kind: str, field: str, value: object, remedy: str):
        self.kind, self.field, self.value, self.remedy = kind, field, value, remedy
        super().__init__(f"{field}: {remedy}")

    def error(self, source: str, row: int) -> UserError:
        """The error that names the source, the row and the field."""
        shown = None if self.value is None else _short(self.value)
        return UserError(f"--data {source}, row {row}, field {self.field}", shown, self.remedy)


def check(record: Row, kind: Kind) -> None:
    """Raise `Flaw` for the first thing that makes a record unfit for its format."""
    for field in kind.texts:
        _check_text(record, field)
    forms = {field: isinstance(record[field], str) for field in kind.texts}
    for field in kind.texts[1:]:
        if forms[field] != forms["prompt"]:
            form, other = ("text", "a list of messages") if forms[field] else ("a list of messages", "text")
            raise Flaw("type", field, None, f"is {form} but the prompt is {other}: give all of them in one form")
        _check_reply(record[field], field)
    if kind is PREFERENCES and record["chosen"] == record["rejected"]:
        raise Flaw("equal", "rejected", None, "equals chosen: a comparison needs two responses (--drop-invalid leaves it out)")
    _check_optional(record)


def identity(record: Row, kind: Kind) -> str:
    """SHA-256 of the record's texts, in hexadecimal: the id of a row whose source has none."""
    texts = json.dumps([record[field] for field in kind.texts], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(texts.encode("utf-8", "surrogatepass")).hexdigest()


def is_number(value: object) -> bool:
    """Whether a value is a number and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain_text(value: str | list[Row]) -> str:
    """The text of a field: the string itself, or the messages' contents with a line break between them."""
    return value if isinstance(value, str) else "\n".join(message["content"] for message in value)


def _check_text(record: Row, field: str) -> None:
    if record.get(field) is None:
        raise Flaw("missing", field, None, "is missing")
    value = record[field]
    if isinstance(value, str):
        if not (value if field == "prompt" else value.strip()):
            raise Flaw("empty", field, value, "is empty (--drop-invalid leaves such rows out)")
        return
    if not isinstance(value, list):
        raise Flaw(*_no_text(field, value))
    if not value:
        raise Flaw("empty", field, value, "has no messages (--drop-invalid leaves such rows out)")
    for message in value:
        _check_message(message, field)


def _check_message(message: object, field: str) -> None:
    if not isinstance(message, dict):
        raise Flaw(*_no_text(field, message))
    others = sorted(key for key, value in message.items() if key not in ("role", "content") and value is not None)
    if others:
        raise Flaw("type", field, None, f"has messages with {', '.join(others)}; only role and content are supported")
    if message.get("role") not in ROLES:
        raise Flaw("turns", f"{field}.role", message.get("role"), f"must be one of {', '.join(ROLES)}")
    content = message.get("content")
    if not isinstance(content, str):
        raise Flaw(*_no_text(f"{field}.content", content))
    if not content.strip() and message["role"] in ("user", "assistant"):
        raise Flaw("empty", f"{field}.content", content, "is empty (--drop-invalid leaves such rows out)")


def _check_reply(value: str | list[Row], field: str) -> None:
    if isinstance(value, str):
        return
    for message in value:
        if message["role"] not in REPLY_ROLES:
            raise Flaw("turns", f"{field}.role", message["role"], "must be assistant: what comes before belongs to the prompt")


def _check_optional(record: Row) -> None:
    confidence = record.get("confidence")
    if confidence is not None:
        if not is_number(confidence):
            raise Flaw("type", "confidence", confidence, "must be a number or null")
        if not math.isfinite(confidence):
            raise Flaw("nan", "confidence", confidence, "must be finite; leave it null where there is none")
    for field in ("worker", "split"):
        if not isinstance(record.get(field), str | None):
            raise Flaw("type", field, record[field], "must be text or null")


def _no_text(field: str, value: object) -> tuple[str, str, object, str]:
    kind = "nan" if isinstance(value, float) and math.isnan(value) else "type"
    return kind, field, value, f"must be text or a list of messages, not {type(value).__name__}"


def _short(value: object, width: int = 40) -> str:
    shown = repr(value)
    return shown if len(shown) <= width else shown[: width - 1] + "…"

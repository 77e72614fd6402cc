"""Any preference set in TRL's formats: text or messages, with the prompt in its own column or before both responses.

The format that this package writes is one of them, so a converted file is read by this adapter.
Every other column is kept.
"""

from __future__ import annotations

from typing import Any

from llm.data import fields
from llm.data.adapter import Adapter
from llm.data.conversation import messages, user_turn, without_prompt
from llm.data.schema import PREFERENCES, Flaw, Row


def convert(row: Row) -> Row:
    """A pair with its prompt apart; raises `Flaw`."""
    chosen, rejected = (fields.required(row, side) for side in ("chosen", "rejected"))
    if isinstance(chosen, list) and isinstance(rejected, list):
        pair = _conversation(row.get("prompt"), messages(chosen, "chosen"), messages(rejected, "rejected"))
    elif row.get("prompt") is None:
        pair = _implicit(fields.text(row, "chosen"), fields.text(row, "rejected"))
    else:
        pair = {name: row[name] for name in ("prompt", "chosen", "rejected")}
    return row | pair | _optional(row)


def _conversation(prompt: Any, chosen: list[Row], rejected: list[Row]) -> Row:
    if prompt is None:
        return _implicit(chosen, rejected)
    turns = _prompt_turns(prompt, chosen)
    return {
        "prompt": turns,
        "chosen": without_prompt(turns, chosen, "chosen"),
        "rejected": without_prompt(turns, rejected, "rejected"),
    }


def _prompt_turns(prompt: Any, chosen: list[Row]) -> list[Row]:
    """The prompt's messages; a textual one is the last user turn, and what the response repeats before it is kept."""
    if not isinstance(prompt, str):
        return messages(prompt, "prompt")
    last = next((i for i, turn in enumerate(chosen) if turn == user_turn(prompt)[0]), None)
    return user_turn(prompt) if last is None else chosen[: last + 1]


def _implicit(chosen: Any, rejected: Any) -> Row:
    """The common beginning as the prompt, found as TRL finds it."""
    if chosen == rejected:
        raise Flaw("equal", "rejected", None, "equals chosen: a comparison needs two responses (--drop-invalid leaves it out)")
    if chosen[:1] != rejected[:1]:
        raise Flaw("missing", "prompt", None, "is missing, and chosen and rejected do not begin alike")
    from trl.data_utils import extract_prompt

    return extract_prompt({"chosen": chosen, "rejected": rejected})


def _optional(row: Row) -> Row:
    """The optional columns that the source has; a CSV file holds numbers as text and nothing as empty text."""
    found: Row = {}
    if "confidence" in row:
        found["confidence"] = fields.optional_number(row, "confidence")
    for name in {"worker", "split"} & row.keys():
        value = row[name]
        found[name] = str(value) if isinstance(value, int) else fields.optional_text(row, name) or None
    return found


ADAPTER = Adapter(
    name="trl",
    kind=PREFERENCES,
    convert=convert,
    columns=frozenset({"chosen", "rejected"}),
    whitespace="Nothing is changed.",
)

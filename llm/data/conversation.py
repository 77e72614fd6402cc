"""Conversations: which turns are the prompt and which are the reply."""

from __future__ import annotations

from typing import Any

from llm.data import fields
from llm.data.schema import Flaw, Row

SIDES = ("chosen", "rejected")


def messages(value: Any, field: str) -> list[Row]:
    """Messages with the keys ``role`` and ``content`` first, and none that is null; raises `Flaw` if it is no such list."""
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise Flaw("type", field, value, f"must be a list of messages, not {type(value).__name__}")
    return [
        {"role": message.get("role"), "content": message.get("content")}
        | {key: item for key, item in message.items() if key not in ("role", "content") and item is not None}
        for message in value
    ]


def user_turn(prompt: str) -> list[Row]:
    """A prompt of one user turn."""
    return [{"role": "user", "content": prompt}]


def rated_pair(row: Row, rating: str) -> Row:
    """Two replies to one user turn, each repeating it, as a preference with their ratings.

    Args:
        row: with ``prompt``, ``chosen`` and ``rejected``.
        rating: the field of a side's rating, with ``{side}`` for the side.

    Raises:
        Flaw: a field is missing or of another type, or the replies do not repeat the prompt.
    """
    prompt = user_turn(fields.text(row, "prompt"))
    record: Row = {"prompt": prompt}
    for side in SIDES:
        record[side] = without_prompt(prompt, messages(fields.required(row, side), side), side)
    for side in SIDES:
        record[f"{side}_rating"] = fields.optional_number(row, rating.format(side=side))
    return record


def without_prompt(prompt: list[Row], turns: list[Row], field: str) -> list[Row]:
    """The turns after the prompt, where the source repeats the prompt before each response.

    The prompt is taken off once: a reply that repeats it keeps its own copy. A conversation that
    starts with neither a system's nor a user's turn repeats no prompt.

    Raises:
        Flaw: the turns start with something else than the prompt.
    """
    if not turns or turns[0]["role"] not in ("system", "user"):
        return turns
    if [_stripped(turn) for turn in turns[: len(prompt)]] != [_stripped(turn) for turn in prompt]:
        raise Flaw("turns", field, turns[0]["content"], "starts with a turn that is not the prompt's")
    return turns[len(prompt) :]


def _stripped(turn: Row) -> tuple[object, object]:
    content = turn["content"]
    return turn["role"], content.strip() if isinstance(content, str) else content

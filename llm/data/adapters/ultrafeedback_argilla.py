"""argilla/ultrafeedback-binarized-preferences-cleaned: single-turn conversations rated by a model.

Its column names have hyphens, and its responses repeat the user's turn, which is taken off once.
"""

from __future__ import annotations

from llm.data import fields
from llm.data.adapter import Adapter
from llm.data.conversation import messages, user_turn, without_prompt
from llm.data.schema import PREFERENCES, Row

SIDES = ("chosen", "rejected")


def convert(row: Row) -> Row:
    """A rated pair as a preference; raises `Flaw`."""
    prompt = user_turn(fields.text(row, "prompt"))
    record: Row = {"prompt": prompt}
    for side in SIDES:
        record[side] = without_prompt(prompt, messages(fields.required(row, side), side), side)
    for side in SIDES:
        record[f"{side}_rating"] = fields.optional_number(row, f"{side}-rating")
        record[f"{side}_model"] = fields.optional_text(row, f"{side}-model")
    return record | {"source": fields.optional_text(row, "source")}


ADAPTER = Adapter(
    name="ultrafeedback-argilla",
    kind=PREFERENCES,
    convert=convert,
    columns=frozenset({"prompt", "chosen", "rejected", "chosen-rating", "rejected-rating"}),
    whitespace="Nothing is changed; the user's turn is taken off the responses once.",
    hub_ids=("argilla/ultrafeedback-binarized-preferences-cleaned",),
    types={"source": "string"}
    | dict.fromkeys((f"{side}_rating" for side in SIDES), "float64")
    | dict.fromkeys((f"{side}_model" for side in SIDES), "string"),
    forgives=frozenset({"empty", "equal"}),
)

"""argilla/ultrafeedback-binarized-preferences-cleaned: single-turn conversations rated by a model.

Its column names have hyphens, and its responses repeat the user's turn, which is taken off once.
"""

from __future__ import annotations

from llm.data import fields
from llm.data.adapter import Adapter
from llm.data.conversation import SIDES, rated_pair
from llm.data.schema import PREFERENCES, Row


def convert(row: Row) -> Row:
    """A rated pair as a preference; raises `Flaw`."""
    record = rated_pair(row, "{side}-rating")
    record |= {f"{side}_model": fields.optional_text(row, f"{side}-model") for side in SIDES}
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

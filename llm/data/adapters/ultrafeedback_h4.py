"""HuggingFaceH4/ultrafeedback_binarized: single-turn conversations scored by a model.

Preferences are in the splits ``train_prefs`` and ``test_prefs``; responses repeat the user's turn,
which is taken off once. Equal and empty responses occur and are left out.
"""

from __future__ import annotations

from llm.data import fields
from llm.data.adapter import Adapter
from llm.data.conversation import SIDES, rated_pair
from llm.data.schema import PREFERENCES, Row


def convert(row: Row) -> Row:
    """A scored pair as a preference; raises `Flaw`."""
    return rated_pair(row, "score_{side}") | {"prompt_id": fields.optional_text(row, "prompt_id")}


ADAPTER = Adapter(
    name="ultrafeedback-h4",
    kind=PREFERENCES,
    convert=convert,
    columns=frozenset({"prompt", "chosen", "rejected", "score_chosen", "score_rejected"}),
    whitespace="Nothing is changed; the user's turn is taken off the responses once.",
    hub_ids=("HuggingFaceH4/ultrafeedback_binarized",),
    default_split="train_prefs",
    aliases={"train": "train_prefs", "test": "test_prefs", "validation": "test_prefs"},
    types={"prompt_id": "string"} | dict.fromkeys((f"{side}_rating" for side in SIDES), "float64"),
    forgives=frozenset({"empty", "equal"}),
)

"""CarperAI/openai_summarize_tldr: Reddit posts with the summary their author wrote, for supervised training."""

from __future__ import annotations

from llm.data import fields, tldr
from llm.data.adapter import Adapter
from llm.data.schema import DEMONSTRATIONS, Row


def convert(row: Row) -> Row:
    """A post and its summary as a demonstration; raises `Flaw`."""
    return {"prompt": tldr.requery(fields.text(row, "prompt")), "completion": tldr.response(fields.text(row, "label"))}


ADAPTER = Adapter(
    name="carper-tldr",
    kind=DEMONSTRATIONS,
    convert=convert,
    columns=frozenset({"prompt", "label"}),
    whitespace="The prompt's line breaks are doubled and the space after TL;DR: goes to the summary, which starts with one.",
    hub_ids=("CarperAI/openai_summarize_tldr",),
    aliases={"validation": "valid"},
    forgives=frozenset({"empty"}),
    looks_like=lambda row: str(row["prompt"]).startswith("SUBREDDIT: r/"),
)

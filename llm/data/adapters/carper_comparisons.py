"""CarperAI/openai_summarize_comparisons: the Reddit comparisons as text, without labeller and confidence.

Prompts have single line breaks and no final ``TL;DR:``, which starts both responses instead.
Equal and empty responses occur and are left out.
"""

from __future__ import annotations

from llm.data import fields, tldr
from llm.data.adapter import Adapter
from llm.data.schema import PREFERENCES, Row


def convert(row: Row) -> Row:
    """A comparison as a preference, in the form that openai/summarize_from_feedback gets; raises `Flaw`."""
    responses = {name: fields.text(row, name).removeprefix(tldr.MARK) for name in ("chosen", "rejected")}
    return {"prompt": tldr.requery(fields.text(row, "prompt"))} | {name: tldr.response(t) for name, t in responses.items()}


def _looks_like(row: Row) -> bool:
    return str(row["prompt"]).startswith("SUBREDDIT: r/") and str(row["chosen"]).startswith(tldr.MARK)


ADAPTER = Adapter(
    name="carper-comparisons",
    kind=PREFERENCES,
    convert=convert,
    columns=frozenset({"prompt", "chosen", "rejected"}),
    whitespace="TL;DR: goes from the responses to the prompt, whose line breaks are doubled; each response starts with a space.",
    hub_ids=("CarperAI/openai_summarize_comparisons",),
    forgives=frozenset({"empty", "equal"}),
    looks_like=_looks_like,
)

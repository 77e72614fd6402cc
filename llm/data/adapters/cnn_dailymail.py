"""abisee/cnn_dailymail: news articles as prompts, with their highlights as the reference summary."""

from __future__ import annotations

from llm.data import fields, tldr
from llm.data.adapter import Adapter
from llm.data.schema import PROMPTS, Row


def convert(row: Row) -> Row:
    """An article as a prompt; raises `Flaw`."""
    return {
        "prompt": tldr.article_query(fields.text(row, "article")),
        "reference": fields.optional_text(row, "highlights"),
        "article_id": fields.optional_text(row, "id"),
    }


ADAPTER = Adapter(
    name="cnn-dailymail",
    kind=PROMPTS,
    convert=convert,
    columns=frozenset({"article", "highlights"}),
    whitespace="Nothing is changed; the query ends in a line break, and a summary starts with its first word.",
    hub_ids=("abisee/cnn_dailymail", "cnn_dailymail"),
    config="3.0.0",
    types={"reference": "string", "article_id": "string"},
)

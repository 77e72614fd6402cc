"""openai/summarize_from_feedback, configuration ``comparisons``: two summaries, a labeller's choice and confidence.

Rows are of Reddit posts (``info.post``, ``info.subreddit``) or, in the validation split, of news
articles (``info.article``). Its validation split consists of ``valid1``, which its authors used for
model selection, and ``valid2``: report the latter. Labels of equal summaries and empty summaries
occur and are left out.
"""

from __future__ import annotations

from llm.data import fields, tldr
from llm.data.adapter import Adapter
from llm.data.schema import PREFERENCES, Flaw, Row


def convert(row: Row) -> Row:
    """A comparison as a preference; raises `Flaw`."""
    summaries, choice = fields.required(row, "summaries"), fields.required(row, "choice")
    if not isinstance(summaries, list) or len(summaries) != 2:
        raise Flaw("type", "summaries", None, "must be a list of two summaries")
    if isinstance(choice, bool) or choice not in (0, 1):
        raise Flaw("choice", "choice", choice, "must be 0 or 1, the preferred summary")
    article = fields.optional_text(row, "info.article")
    prompt, form = (_post_query(row), tldr.response) if article is None else (tldr.article_query(article), str)
    chosen, rejected = ({"summaries": summaries[i]} for i in (choice, 1 - choice))
    return {
        "prompt": prompt,
        "chosen": form(fields.text(chosen, "summaries.text")),
        "rejected": form(fields.text(rejected, "summaries.text")),
        "confidence": fields.optional_number(row, "extra.confidence"),
        "worker": fields.optional_text(row, "worker"),
        "split": fields.optional_text(row, "split"),
        "domain": "reddit" if article is None else "cnndm",
        "choice": choice,
        "batch": fields.optional_text(row, "batch"),
        "post_id": fields.optional_text(row, "info.id"),
        "chosen_policy": fields.optional_text(chosen, "summaries.policy"),
        "rejected_policy": fields.optional_text(rejected, "summaries.policy"),
    }


def _post_query(row: Row) -> str:
    title = fields.optional_text(row, "info.title") or ""
    return tldr.query(fields.text(row, "info.subreddit"), title, fields.text(row, "info.post"))


ADAPTER = Adapter(
    name="summarize-from-feedback",
    kind=PREFERENCES,
    convert=convert,
    columns=frozenset({"info", "summaries", "choice"}),
    whitespace="Summaries of posts keep the space they start with (added if one lacks it); those of articles stay as they are.",
    hub_ids=("openai/summarize_from_feedback",),
    config="comparisons",
    within={"valid1": "validation", "valid2": "validation"},
    types={"choice": "int64"} | dict.fromkeys(("domain", "batch", "post_id", "chosen_policy", "rejected_policy"), "string"),
    forgives=frozenset({"empty", "equal"}),
)

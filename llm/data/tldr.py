"""The one form of the summarisation tasks' texts, whichever source they come from.

The format strings are those of the original experiments on human feedback for summaries. A query of
Reddit ends in ``TL;DR:`` and its response starts with a space, so that the response's first word is
one token in byte-pair vocabularies; a query of a news article ends in a line break and its response
starts with its first word.
"""

from __future__ import annotations

import re

from llm.data.schema import Flaw

MARK = "TL;DR:"
_POST = re.compile(r"\s*SUBREDDIT: r/(?P<subreddit>\S*)\s*\nTITLE: (?P<title>.*?)\s*\nPOST: (?P<post>.*)", re.DOTALL)


def query(subreddit: str, title: str, post: str) -> str:
    r"""The query of a Reddit post.

    >>> query("tea", "Milk first?", "I pour milk first.")
    'SUBREDDIT: r/tea\n\nTITLE: Milk first?\n\nPOST: I pour milk first.\n\nTL;DR:'
    """
    return f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\n{MARK}"


def article_query(article: str) -> str:
    """The query of a news article."""
    return f"Article:\n{article}\n\n{MARK}\n"


def requery(text: str, field: str = "prompt") -> str:
    """`query` of a prompt with single line breaks, with or without its final ``TL;DR:``.

    Raises:
        Flaw: the text is no such prompt.
    """
    match = _POST.fullmatch(text.rstrip().removesuffix(MARK).rstrip())
    if match is None:
        remedy = "must read SUBREDDIT: r/… TITLE: … POST: …; --adapter trl takes the text as it is"
        raise Flaw("format", field, text, remedy)
    return query(**match.groupdict())


def response(text: str) -> str:
    """A response to `query`: the text with a space before it, added if there is none; nothing is taken away.

    >>> response("Pour tea first."), response(" Pour tea first.")
    (' Pour tea first.', ' Pour tea first.')
    """
    return text if text[:1].isspace() or not text else f" {text}"

"""What to score with, and what was done."""

from __future__ import annotations

from dataclasses import dataclass

from llm.models.load import parse_dtype
from llm.scoring.files import COLUMNS
from theory.errors import UserError, nearest


@dataclass(frozen=True)
class Job:
    """What to score with, and how.

    Attributes:
        models: folders or hub ids; one for a reference, one or more for rewards.
        kind: ``reference`` or ``reward``.
        max_length: of prompt and completion, tokens; None for no limit.
        batch_size: pairs at once; it changes no score beyond rounding.
        dtype: of the weights.
        trust_remote_code: run the models' own code, where they bring some.
        chat_template: of conversations, in place of the tokenizers' own (`llm.models.load.load_tokenizer`).

    Raises:
        UserError: a value is out of range.
    """

    models: tuple[str, ...]
    kind: str
    max_length: int | None = 1024
    batch_size: int = 8
    dtype: str = "float32"
    trust_remote_code: bool = False
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in COLUMNS:
            raise UserError("--kind", self.kind, nearest(self.kind, COLUMNS))
        if not self.models:
            raise UserError("--model", None, "name at least one")
        if self.kind == "reference" and len(self.models) > 1:
            raise UserError("--model", self.models[1], "is a second reference: there is one")
        if self.max_length is not None and self.max_length < 2:
            raise UserError("--max-length", self.max_length, "must be at least 2: one token of a prompt and one to score")
        if self.batch_size < 1:
            raise UserError("--batch-size", self.batch_size, "must be at least 1")
        parse_dtype(self.dtype)


@dataclass(frozen=True)
class Report:
    """What was done.

    Attributes:
        rows, scored, dropped: pairs in the data, those with scores, and those whose prompt fills the limit.
        resumed: pairs, times models, that an earlier run had scored.
        margin: mean score of chosen less rejected, nats, one a model.
        accuracy: share of the scored pairs whose chosen response scores higher, one a model.
    """

    out: str
    kind: str
    models: tuple[str, ...]
    max_length: int | None
    dtype: str
    device: str
    rows: int
    scored: int
    dropped: int
    resumed: int
    margin: tuple[float, ...]
    accuracy: tuple[float, ...]
    seconds: float

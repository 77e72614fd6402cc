"""Scoring a data set with one or several models, in chunks that survive an interruption."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from llm.models.load import load_tokenizer
from llm.scoring.digest import contents, data_digest, tokenizer_digest, weights_digest
from llm.scoring.files import COLUMNS, Provenance, read, write
from llm.scoring.job import Job, Report
from llm.scoring.member import SIDES, Member, device
from llm.scoring.parts import Parts, refuse_other
from theory.errors import UserError

# Pairs in a chunk: what an interruption can cost.
CHUNK = 256
LIBRARIES = ("prefproof", "torch", "transformers", "trl")

Advance = Callable[[int, int], None]


def score(dataset: Dataset, job: Job, out: Path, advance: Advance = lambda done, total: None) -> Report:
    """Score a data set into a Parquet file (`llm.scoring.files`).

    Finished chunks are kept beside ``out`` until it is whole: the same call after an interruption goes on
    where it stopped. A file that is there already and has the same scores is left as it is. Under a launcher
    of several processes each scores its share of the chunks.

    Args:
        dataset: preference data (`llm.data`).
        job: models and settings.
        out: the file.
        advance: told after every chunk how many pairs (times models) of how many are done.

    Raises:
        UserError: the data, a model or a setting is unfit; a score is not finite; memory or disk does not
            suffice; or ``out`` holds other scores.
    """
    started = time.monotonic()
    ids, content = dataset["id"][:], contents(dataset)
    if len(set(ids)) < len(ids):
        raise UserError("--data", None, "has an id twice: scores are joined by id")
    members = [Member(name, _tokenizer(name, job), dataset, job) for name in job.models]
    provenance = _provenance(job, members, data_digest(ids, content))
    if out.exists():
        refuse_other(out, read(out).provenance, provenance)
        resumed = len(ids) * len(members)
    else:
        ranks, parts = Ranks.here(), Parts(out, provenance)
        chunks = [(number, start) for number in range(len(members)) for start in range(0, len(ids), CHUNK)]
        missing = [chunk for chunk in chunks if parts.read(*chunk) is None]
        resumed = sum(len(ids[start : start + CHUNK]) for number, start in set(chunks) - set(missing))
        ranks.wait()  # until every process has seen what is missing
        for number in sorted({number for number, _ in missing}):
            _ = members[number].tokens  # TRL's tokenising waits for all processes, also those without a chunk
        _score(missing[ranks.rank :: ranks.world], members, ids, parts, advance)
        ranks.wait()
        if ranks.rank == 0:
            write(out, _assemble(job.kind, ids, content, _gather(chunks, len(members), len(ids), parts)), provenance)
            parts.remove()
        ranks.wait()
    return _report(job, out, resumed, time.monotonic() - started)


@dataclass(frozen=True)
class Ranks:
    """This process among those that score together on one file system."""

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = lambda: None

    @classmethod
    def here(cls) -> Ranks:
        """As the launcher says."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        from accelerate import PartialState

        state = PartialState(cpu=device().type == "cpu")  # it does not look for itself
        return cls(state.process_index, state.num_processes, state.wait_for_everyone)


def _tokenizer(name: str, job: Job) -> PreTrainedTokenizerBase:
    return load_tokenizer(name, chat_template=job.chat_template, trust_remote_code=job.trust_remote_code)


def _provenance(job: Job, members: list[Member], data: str) -> Provenance:
    return Provenance(
        kind=job.kind,
        models=job.models,
        weights=tuple(weights_digest(name, trust_remote_code=job.trust_remote_code) for name in job.models),
        tokenizers=tuple(tokenizer_digest(member.tokenizer) for member in members),
        data=data,
        max_length=job.max_length,
        dtype=job.dtype,
        versions={name: version(name) for name in LIBRARIES},
    )


def _score(chunks: list[tuple[int, int]], members: list[Member], ids: list[str], parts: Parts, advance: Advance) -> None:
    """Compute and keep chunks, one model after the other."""
    sizes = [len(ids[start : start + CHUNK]) for _, start in chunks]
    for at, (number, start) in enumerate(chunks):
        parts.write(number, start, members[number].chunk(ids[start : start + CHUNK]))
        advance(sum(sizes[: at + 1]), sum(sizes))
        if at + 1 < len(chunks) and chunks[at + 1][0] != number:
            members[number].release()


def _gather(chunks: list[tuple[int, int]], models: int, rows: int, parts: Parts) -> dict[str, np.ndarray]:
    """Both sides' scores, shape (rows, models) each, NaN where the prompt fills the limit."""
    scores = {side: np.full((rows, models), np.nan) for side in SIDES}
    for number, start in chunks:
        found = parts.read(number, start)
        assert found is not None
        for side, values in scores.items():
            values[start : start + len(found), number] = found[side].to_numpy()
    return scores


def _assemble(kind: str, ids: list[str], content: list[str], scores: dict[str, np.ndarray]) -> pa.Table:
    """The file's table: numbers for one model, lists for several; null where some model's limit is filled."""
    missing = np.isnan(scores[SIDES[0]]).any(1)
    columns = {}
    for name, values in zip(COLUMNS[kind], scores.values(), strict=True):
        single = values.shape[1] == 1
        rows = values[:, 0].tolist() if single else values.tolist()
        kept = [None if gone else row for gone, row in zip(missing, rows, strict=True)]
        columns[name] = pa.array(kept, pa.float64() if single else pa.list_(pa.float64()))
    return pa.table({"id": ids, "content": content, **columns})


def _report(job: Job, out: Path, resumed: int, seconds: float) -> Report:
    table = read(out).table
    scored = table.filter(table[COLUMNS[job.kind][0]].is_valid())
    chosen, rejected = (np.array(scored[name].to_pylist()).reshape(len(scored), -1) for name in COLUMNS[job.kind])
    margin = chosen - rejected
    return Report(
        out=str(out),
        kind=job.kind,
        models=job.models,
        max_length=job.max_length,
        dtype=job.dtype,
        device=str(device()),
        rows=len(table),
        scored=len(scored),
        dropped=len(table) - len(scored),
        resumed=resumed,
        margin=tuple(margin.mean(0).tolist()),
        accuracy=tuple((margin > 0).mean(0).tolist()),
        seconds=seconds,
    )

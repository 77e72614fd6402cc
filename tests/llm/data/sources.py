"""The fixtures: rows of our own with the true schemas of the published sources, as JSON lines or as Parquet."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FIXTURES = Path(__file__).parent / "fixtures"
TEXT, MESSAGES = pa.string(), pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
SUMMARY = pa.struct([(name, TEXT) for name in ("text", "policy", "note")])

# As the data sets' cards list them.
SCHEMAS = {
    "summarize_from_feedback": pa.schema(
        [
            ("info", pa.struct([(name, TEXT) for name in ("id", "post", "title", "subreddit", "site", "article")])),
            ("summaries", pa.list_(SUMMARY)),
            ("choice", pa.int32()),
            *((name, TEXT) for name in ("worker", "batch", "split")),
            ("extra", pa.struct([("confidence", pa.int32())])),
        ]
    ),
    "carper_comparisons": pa.schema([(name, TEXT) for name in ("prompt", "chosen", "rejected")]),
    "carper_tldr": pa.schema([("prompt", TEXT), ("label", TEXT)]),
    "ultrafeedback_argilla": pa.schema(
        [
            ("source", TEXT),
            ("prompt", TEXT),
            *(
                column
                for side in ("chosen", "rejected")
                for column in ((side, MESSAGES), (f"{side}-rating", pa.float64()), (f"{side}-model", TEXT))
            ),
        ]
    ),
    "ultrafeedback_h4": pa.schema(
        [
            ("prompt", TEXT),
            ("prompt_id", TEXT),
            *((name, MESSAGES) for name in ("chosen", "rejected", "messages")),
            ("score_chosen", pa.float64()),
            ("score_rejected", pa.float64()),
        ]
    ),
    "cnn_dailymail": pa.schema([(name, TEXT) for name in ("article", "highlights", "id")]),
}


def rows(name: str, split: str) -> list[dict]:
    """The raw rows of a fixture."""
    return [json.loads(line) for line in (FIXTURES / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def as_parquet(name: str, folder: Path) -> Path:
    """A fixture as a clone of its repository holds it: a folder of Parquet shards."""
    (folder / "data").mkdir(parents=True)
    for file in (FIXTURES / name).glob("*.jsonl"):
        table = pa.Table.from_pylist(rows(name, file.stem), schema=SCHEMAS[name])
        for i, part in enumerate((table.slice(0, 5), table.slice(5))):
            pq.write_table(part, folder / "data" / f"{file.stem}-{i:05}-of-00002-0a1b2c3d.parquet")
    return folder


def write_jsonl(path: Path, records: list[dict]) -> Path:
    """JSON lines; NaN is written as such."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path

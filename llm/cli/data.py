"""``llm data``: look at a data set, convert it, and make the training sets of the papers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import cell, number, print_json, print_table
from theory.cli.groups import grouped
from theory.cli.program import program
from theory.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

    from llm.data.load import Loaded
    from llm.data.segments import Segmenter
    from llm.data.splits import Splits

Data = Annotated[str, typer.Option("--data", help="A hub id (owner/name or owner/name:configuration), a file or a folder.")]
OutFile = Annotated[Path, typer.Option("--out", help="The Parquet file to write; nothing is overwritten.")]
OutFolder = Annotated[Path, typer.Option("--out", help="The folder to write; nothing is overwritten.")]
NAMES = {"all": "D_all", "hc_he": "D_hc,he", "lc_le": "D_lc,le"}


@dataclass(frozen=True)
class Read:
    """A data set that was read.

    Attributes:
        loaded: as it was read.
        counter: what counts tokens.
        dataset: its rows of allowed length, scored and relabelled where that was asked for.
        changes: what was done to it, for `account`.
    """

    loaded: Loaded
    counter: Segmenter
    dataset: Dataset
    changes: dict[str, Any]

    @property
    def account(self) -> dict[str, Any]:
        """What was read, for reports and for the files made of it."""
        loaded = self.loaded
        counts = {"read": loaded.rows, "rows": len(self.dataset), "repeated": loaded.repeated, "tokens": self.counter.name}
        return loaded.provenance | counts | self.changes


@dataclass(frozen=True)
class Reading:
    """How to read the data, and which rows."""

    split: Annotated[str | None, typer.Option("--split", help="The split to read.")] = None
    adapter: Annotated[str | None, typer.Option("--adapter", help="The source's schema; default: by id or columns.")] = None
    limit: Annotated[int | None, typer.Option("--limit", help="Read so many rows only.")] = None
    drop_invalid: Annotated[
        bool | None,
        typer.Option(
            "--drop-invalid/--strict",
            help="Leave out rows that are no comparison, or refuse all of them; by default published flaws are left out.",
        ),
    ] = None
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="Count its tokens; without one, words.")] = None
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Leave out pairs of prompt and response with more tokens (papers: 1024).")
    ] = None
    scores: Annotated[
        list[Path] | None,
        typer.Option("--scores", help="Add columns of a file of `llm score`, by id; several files may be given."),
    ] = None
    relabel: Annotated[bool, typer.Option("--relabel", help="Prefer the response of the larger oracle reward.")] = False

    def load(self, data: str, kind: str | None = "preferences") -> Read:
        """The data set, filtered, scored and relabelled; raises `UserError`."""
        from llm.data.load import load
        from llm.data.schema import PREFERENCES
        from llm.data.segments import segmenter

        counter = segmenter(self.tokenizer)
        wanted = None if kind is None else _kinds()[options.one_of("--as", kind, tuple(_kinds()))]
        loaded = load(data, wanted, split=self.split, adapter=self.adapter, limit=self.limit, drop_invalid=self.drop_invalid)
        for option, given in (("max-tokens", self.max_tokens), ("scores", self.scores), ("relabel", self.relabel)):
            if given and loaded.kind is not PREFERENCES:
                raise UserError(f"--{option}", None, f"is for preferences; {data} holds {loaded.kind.name}")
        return Read(loaded, counter, *self._changed(loaded.dataset, counter))

    def _changed(self, dataset: Dataset, counter: Segmenter) -> tuple[Dataset, dict[str, Any]]:
        """The rows of allowed length with their scores and, if asked for, an oracle's labels; and an account of that."""
        changes: dict[str, Any] = {}
        if self.max_tokens is not None:
            from llm.data.filters import within_tokens

            kept = within_tokens(dataset, counter, self.max_tokens)
            changes |= {"max_tokens": self.max_tokens, "too_long": len(dataset) - len(kept)}
            dataset = kept
        if self.scores:
            from llm.scoring.cache import join

            scored = join(dataset, *self.scores)
            changes |= {"scores": [str(path) for path in self.scores], "without_scores": len(dataset) - len(scored)}
            dataset = scored
        if self.relabel:
            from llm.data.length_bias import relabel

            dataset, changes["relabelled"] = relabel(dataset)
        return dataset, changes


def register(app: typer.Typer) -> None:
    """Add the sub-commands."""
    data = program("data", "Look at preference data, convert them, and make the training sets of the papers.")
    data.command("show")(grouped(show))
    data.command("convert")(grouped(convert))
    data.command("splits")(grouped(splits))
    data.command("length-bias")(grouped(length_bias))
    app.add_typer(data)


def show(
    *,
    data: Data,
    reading: Reading,
    rows: Annotated[int, typer.Option("--rows", help="Rows to print.")] = 1,
    json: options.Json = False,
) -> None:
    """Read a data set as training would, and describe it: rows, columns, lengths, confidence, the first rows."""
    from llm.data.describe import describe

    options.nonnegative("--rows", rows)
    read = reading.load(data, None)
    loaded, dataset = read.loaded, read.dataset
    first = [dataset[i] for i in range(min(rows, len(dataset)))]
    record = read.account | {"kind": loaded.kind.name, "whitespace": loaded.adapter.whitespace}
    record |= describe(dataset, loaded.kind, read.counter)
    if json:
        print_json(record | {"first": first})
        return
    print_table(None, ("", ""), [(key, _line(value)) for key, value in record.items() if value not in ({}, None)])
    for row in first:
        print_table("row", ("", ""), [(key, _shown(value)) for key, value in row.items()])


def convert(
    *,
    data: Data,
    out: OutFile,
    reading: Reading,
    kind: Annotated[str, typer.Option("--as", help="preferences, demonstrations (chosen responses) or prompts.")] = "preferences",
    json: options.Json = False,
) -> None:
    """Convert any source to the one format, as a Parquet file that every command reads without an adapter."""
    from llm.data.write import free, write_file

    free("--out", out)
    read = reading.load(data, kind)
    record = read.account | {"kind": read.loaded.kind.name}
    write_file(read.dataset, out, record)
    _report(record | {"out": str(out)}, json, f"{len(read.dataset):,} {read.loaded.kind.name} written to {out}")


def splits(
    *,
    data: Data,
    out: OutFolder,
    reading: Reading,
    cap: Annotated[int | None, typer.Option("--cap", help="Most training rows of the two subsets (drdo: 10000).")] = None,
    with_prompt: Annotated[
        bool, typer.Option("--with-prompt", help="Edit distance with the prompt before both responses.")
    ] = False,
    by_prompt: Annotated[bool, typer.Option("--by-prompt", help="Keep all comparisons of a prompt on one side.")] = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Make drdo's splits: all, high confidence and edit distance, low confidence and edit distance; 90/10 train/validation."""
    from llm.data.splits import make
    from llm.data.write import free, write_folder

    options.nonnegative("--seed", seed)
    free("--out", out)
    read = reading.load(data)
    made = make(read.dataset, read.counter, seed=seed, cap=cap, with_prompt=with_prompt, by_prompt=by_prompt)
    settings = {"seed": seed, "cap": cap, "with_prompt": with_prompt, "by_prompt": by_prompt}
    record = read.account | settings | _splits_record(made)
    sides = ("train", "validation")
    parts = {name: {side: read.dataset.select(getattr(part, side)) for side in sides} for name, part in made.parts.items()}
    write_folder(parts, out, record)
    if json:
        print_json(record | {"out": str(out)})
    else:
        _print_splits(made, record, out)


def length_bias(
    *,
    data: Data,
    out: OutFile,
    reading: Reading,
    rho: Annotated[float, typer.Option("--rho", help="Share of rows whose longer response is preferred.")] = 0.3,
    size: Annotated[int, typer.Option("--size", help="Rows to select.")] = 30_000,
    percent: Annotated[int, typer.Option("--percent", help="How many percent more tokens a longer response has.")] = 10,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Select a training set in which the longer response is preferred in a share ρ of the rows."""
    from llm.data import length_bias as bias
    from llm.data.write import free, write_file

    options.nonnegative("--seed", seed)
    free("--out", out)
    read = reading.load(data)
    selected = bias.select(read.dataset, read.counter, rho, size, seed=seed, percent=percent)
    longer, shorter, neither = selected.available
    record = read.account | {"rho": rho, "size": size, "percent": percent, "seed": seed}
    record |= {"longer_preferred": selected.longer_preferred}
    record |= {"share": selected.share, "available": {"longer": longer, "shorter": shorter, "neither": neither}}
    record |= {"available_share": longer / (longer + shorter), "paper_share": bias.BASE_SHARE}
    write_file(read.dataset.select(selected.rows), out, record)
    line = (
        f"{size:,} rows written to {out}: the longer response is preferred in {selected.longer_preferred:,} of them, "
        f"ρ = {selected.share:.4g}; in the data, in {record['available_share']:.2f} of the pairs that have a longer one "
        f"(paper: {bias.BASE_SHARE})"
    )
    _report(record | {"out": str(out)}, json, line)


def _kinds() -> dict[str, Any]:
    from llm.data.schema import DEMONSTRATIONS, PREFERENCES, PROMPTS

    return {kind.name: kind for kind in (PREFERENCES, DEMONSTRATIONS, PROMPTS)}


def _splits_record(made: Splits) -> dict[str, Any]:
    from llm.data.splits import TABLE_5

    def part(name: str) -> dict[str, Any]:
        found, printed = made.parts[name], TABLE_5[name]
        return {
            "train": len(found.train),
            "validation": len(found.validation),
            "confidence": found.confidence,
            "edit_distance": found.edit_distance,
            "edit_distance_with_prompt": found.edit_distance_with_prompt,
            "drdo_table_5": vars(printed),
        }

    return {
        "percentiles": {"confidence": made.confidence, "edit_distance": made.edit_distance},
        "without_confidence": made.without_confidence,
        "at_percentile": made.at_percentile,
        "confidence_by_choice": made.confidence_by_choice,
        "splits": {name: part(name) for name in made.parts},
    }


def _print_splits(made: Splits, record: dict[str, Any], out: Path) -> None:
    rows = []
    for name, part in record["splits"].items():
        ours = [part[key] for key in ("confidence", "edit_distance", "edit_distance_with_prompt", "train", "validation")]
        printed = [part["drdo_table_5"][key] for key in ("confidence", "edit_distance", "train", "validation")]
        rows.append([NAMES[name], "here", *map(_value, ours)])
        rows.append(["", "drdo Table 5", _value(printed[0]), _value(printed[1]), "–", *map(_value, printed[2:])])
    columns = ("split", "", "confidence", f"edit distance ({record['tokens']})", "with prompt", "train", "validation")
    print_table(f"written to {out}", columns, rows)
    typer.echo(f"Percentiles: confidence {number(made.confidence)}, edit distance {number(made.edit_distance)}.")
    typer.echo(f"In neither subset: {made.at_percentile:,} rows at a percentile; {made.without_confidence:,} without confidence.")
    if made.confidence_by_choice:
        shown = ", ".join(f"{number(mean)} (choice {choice})" for choice, mean in made.confidence_by_choice.items())
        typer.echo(f"Mean confidence by the summary preferred: {shown}. Far apart, it tells which one, not how sure.")


def _report(record: dict[str, Any], json: bool, line: str) -> None:
    if json:
        print_json(record)
    else:
        typer.echo(line)


def _value(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else cell(value)


def _shown(value: Any, width: int = 400) -> str:
    text = value if isinstance(value, str) else repr(value) if isinstance(value, list) else cell(value)
    return text if len(text) <= width else text[: width - 1] + "…"

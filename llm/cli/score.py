"""``llm score``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theory.cli import options
from theory.cli.console import number, print_json, print_table
from theory.cli.progress import Bar

if TYPE_CHECKING:
    from llm.scoring.job import Report


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score)


def score(
    model: Annotated[list[str], typer.Option("--model", help="Folder or hub id; several make an ensemble of rewards.")],
    data: Annotated[str, typer.Option("--data", help="Preference data: a file or a hub id.")],
    kind: Annotated[str, typer.Option("--kind", help="reference (log-probabilities) or reward.")],
    out: Annotated[Path, typer.Option("--out", help="The scores (.parquet); a second start continues an interrupted one.")],
    split: Annotated[str | None, typer.Option("--split", help="Split of the data.")] = None,
    max_length: Annotated[int, typer.Option("--max-length", help="Most tokens of prompt and completion.")] = 1024,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Pairs at once.")] = 8,
    dtype: Annotated[str, typer.Option("--dtype", help="Of the weights: float32, bfloat16, float16, float64, auto.")] = "float32",
    chat_template: Annotated[
        str | None, typer.Option("--chat-template", help="A jinja file, or plain, in place of the tokenizer's own.")
    ] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code that a model brings.")] = False,
    json: options.Json = False,
) -> None:
    """Compute reference log-probabilities or oracle rewards once; `llm train --scores` joins them by id."""
    options.writable("--out", out)
    import datasets
    import transformers

    from llm.data.load import load_preferences
    from llm.scoring.job import Job
    from llm.scoring.score import score as compute

    job = Job(tuple(model), kind, max_length, batch_size, dtype, trust_remote_code, chat_template)
    datasets.disable_progress_bars()  # ours is enough
    transformers.utils.logging.disable_progress_bar()
    with Bar("score", silent=bool(_rank())) as bar:
        report = compute(load_preferences(data, split=split), job, out, bar.reach)
    if _rank():
        return  # the first of several processes speaks for all
    if json:
        print_json(asdict(report))
    else:
        _print(report)


def _rank() -> int:
    """Which of several processes this is."""
    return int(os.environ.get("RANK", "0"))


def _print(report: Report) -> None:
    rows = [
        (name, number(margin), f"{accuracy:.1%}")
        for name, margin, accuracy in zip(report.models, report.margin, report.accuracy, strict=True)
    ]
    print_table(f"{report.kind} scores in {report.out}", ("model", "mean margin (nats)", "chosen higher"), rows)
    left = f"; {report.dropped} left out, their prompts fill {report.max_length} tokens" if report.dropped else ""
    there = f"; {report.resumed} were there already" if report.resumed else ""
    typer.echo(f"{report.scored} of {report.rows} pairs scored in {report.seconds:.1f} s on {report.device}{left}{there}")

"""``llm score``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import number, print_json, print_table

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
    with _Bar() as bar:
        report = compute(load_preferences(data, split=split), job, out, bar.advance)
    if _rank():
        return  # the first of several processes speaks for all
    if json:
        print_json(asdict(report))
    else:
        _print(report)


def _rank() -> int:
    """Which of several processes this is."""
    return int(os.environ.get("RANK", "0"))


class _Bar:
    """A progress bar on the terminal; silent elsewhere."""

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

        columns = ("score", BarColumn(), MofNCompleteColumn(), "pairs", TimeElapsedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal or bool(_rank()))
        self.progress.__enter__()
        self.task = self.progress.add_task("score", total=None)
        return self

    def advance(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)

    def __exit__(self, *error: Any) -> None:
        self.progress.__exit__(*error)


def _print(report: Report) -> None:
    rows = [
        (name, number(margin), f"{accuracy:.1%}")
        for name, margin, accuracy in zip(report.models, report.margin, report.accuracy, strict=True)
    ]
    print_table(f"{report.kind} scores in {report.out}", ("model", "mean margin (nats)", "chosen higher"), rows)
    left = f"; {report.dropped} left out, their prompts fill {report.max_length} tokens" if report.dropped else ""
    there = f"; {report.resumed} were there already" if report.resumed else ""
    typer.echo(f"{report.scored} of {report.rows} pairs scored in {report.seconds:.1f} s on {report.device}{left}{there}")

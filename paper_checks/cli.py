"""The command ``paper-checks``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options, program
from theory.cli.console import print_json, print_table
from theory.cli.progress import Bar
from theory.process import keep_memory

if TYPE_CHECKING:
    from paper_checks.run import Result

app = program.program("paper-checks", "Every claim of the three papers, checked: holds, holds-if, fails, or not-checkable.")
program.version_option(app)

Paper = Annotated[str | None, typer.Option("--paper", help="unified, drdo or distillation; all of them without.")]
Only = Annotated[str | None, typer.Option("--only", help="One check's id, or several separated by commas.")]
Fast = Annotated[bool, typer.Option("--fast", help="Leave out the checks that take more than a few seconds (CI's set).")]


@app.command("list")
def list_claims(paper: Paper = None, json: options.Json = False) -> None:
    """Every claim, with the verdict on record."""
    from paper_checks import records
    from paper_checks.claims import select

    rows = [(c, records.load(c)) for c in select(paper)]
    if json:
        facts = ("id", "paper", "statement", "assumes", "predicts", "tested", "slow", "reproduce")
        print_json([{**{f: getattr(c, f) for f in facts}, "claim": c.says, "recorded": r and r["verdict"]} for c, r in rows])
        return
    print_table(None, ("id", "verdict", "claim"), [(c.id, _word(r), f"{c.statement}: {c.says}") for c, r in rows])
    typer.echo("`paper-checks run --only ID` checks one and shows the numbers.")


def _word(record: dict[str, Any] | None) -> str:
    return "–" if record is None else str(record["verdict"])


@app.command()
def run(
    paper: Paper = None,
    only: Only = None,
    fast: Fast = False,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="Processes; 0 for one a core.")] = 0,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as one self-contained page.")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Make what was found the record (for maintainers; review the diff).")
    ] = False,
    json: options.Json = False,
) -> None:
    """Check the claims; exit code 1 if a verdict differs from the record."""
    from paper_checks import records
    from paper_checks.claims import select

    options.writable("--html", html)
    selected = select(paper, only, fast=fast)
    results = _run(selected, jobs or None)
    if record:
        for result in results:
            records.save(result.claim, result.finding)
    if html is not None:
        from paper_checks.page import write

        write(html, results)
    if json:
        print_json([result.record() for result in results])
    elif only is not None:
        for result in results:
            _print_one(result)
    else:
        _print(results)
    if not record and any(result.differs for result in results):
        raise typer.Exit(1)


def _run(selected: list[Any], jobs: int | None) -> list[Result]:
    """The results in the order of ``selected``, with a progress bar on standard error."""
    from paper_checks.run import check_all

    found = {}
    with Bar("checking", len(selected)) as bar:
        for result in check_all(selected, jobs):
            found[result.claim.id] = result
            bar.advance(what=result.claim.id)
    return [found[claim.id] for claim in selected]


def _print(results: list[Result]) -> None:
    rows = [(r.claim.id, _verdict(r), f"{r.claim.statement}: {r.claim.says}") for r in results]
    print_table(None, ("id", "verdict", "claim"), rows)
    counts: dict[str, int] = {}
    for result in results:
        counts[result.finding.verdict] = counts.get(result.finding.verdict, 0) + 1
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    seconds = sum(r.seconds for r in results)
    typer.echo(f"{len(results)} claims: {said}; {seconds:.0f} s of computing")
    for result in results:
        if result.differs:
            typer.echo(f"{result.claim.id}: the record says {_word(result.recorded)}, we find {result.finding.verdict}")
        elif result.changes:
            shown = "; ".join(str(change) for change in result.changes[:3])
            typer.echo(f"{result.claim.id}: {len(result.changes)} numbers changed: {shown}")
    typer.echo("`paper-checks run --only ID` shows a claim's numbers and its counterexample.")


def _verdict(result: Result) -> str:
    what = str(result.finding.verdict)
    return what if not result.differs else f"{what} (record: {_word(result.recorded)})"


def _print_one(result: Result) -> None:
    claim, finding = result.claim, result.finding
    rows = [("claim", claim.says), ("assumes", claim.assumes), ("predicts", claim.predicts), ("tested", claim.tested)]
    rows += [("verdict", _verdict(result)), ("assumption", finding.assumption)]
    rows += [(f"evidence: {name}", text) for name, text in _lines(result.record()["evidence"])]
    rows += [(f"counterexample: {name}", text) for name, text in _lines(result.record()["counterexample"] or {})]
    rows += [("changed", str(change)) for change in result.changes]
    rows += [("reproduce", claim.reproduce)]
    print_table(f"{claim.id} ({claim.statement})", ("", ""), [row for row in rows if row[1]])


def _lines(evidence: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in evidence.items()]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Entry point."""
    keep_memory()
    sys.exit(program.run(app, sys.argv[1:]))


if __name__ == "__main__":
    main()

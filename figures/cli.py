"""The command ``figures``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options, program
from theory.cli.console import cell, print_json, print_table
from theory.cli.progress import Bar
from theory.errors import UserError
from theory.process import keep_memory

if TYPE_CHECKING:
    from figures.build import Built, Order

app = program.program("figures", "The papers' figures, and some that they lack, with captions from the data.")
program.version_option(app)

Fast = Annotated[bool, typer.Option("--fast", help="Less work: fewer data sets and points.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Folder of computed data; $PREFPROOF_CACHE or the user's cache without.")
]
Results = Annotated[Path | None, typer.Option("--results", help="Folder of language-model results; the committed ones without.")]
SHOWN = 20


@app.command("list")
def list_figures(json: options.Json = False) -> None:
    """Every figure, and what it shows."""
    from figures import registry
    from figures.cache import settings

    figures = [registry.get(name) for name in registry.names()]
    if json:
        facts = ("name", "title", "source", "reads")
        shown = [{**{fact: getattr(f, fact) for fact in facts}, "results": f.results and asdict(f.results)} for f in figures]
        print_json([{**known, "config": settings(f, f.config)} for known, f in zip(shown, figures, strict=True)])
        return
    print_table(None, ("figure", "shows", "source"), [(f.name, f.title, f.source) for f in figures])
    typer.echo("`figures build NAME…` or `--all` draws them, `figures data NAME` shows the table behind one.")


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="Figures; see figures list.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Every figure.")] = False,
    fast: Fast = False,
    formats: Annotated[str, typer.Option("--formats", help="Of pdf, svg and png, separated by commas.")] = "pdf,svg,png",
    out: Annotated[Path, typer.Option("--out", help="Folder of the pictures, captions and records.")] = Path("pictures"),
    cache: Cache = None,
    results: Results = None,
    jobs: options.Jobs = -1,
    json: options.Json = False,
) -> None:
    """Draw figures, and a page of all in the folder; what is up to date is left alone, what was computed stays."""
    from figures.build import build_all, parse_formats
    from figures.page import NAME as PAGE

    chosen = _chosen(names, all)
    if jobs < 1 and jobs != -1:
        raise UserError("--jobs", jobs, "must be a number of processes, or -1 for one a core")
    order = _order(fast=fast, formats=parse_formats(formats), out=out, cache=cache, results=results)
    found = {built.name: built for built in _with_bar(build_all(chosen, order, jobs), len(chosen))}
    built = [found[name] for name in chosen]
    for one in built:
        if one.data == "corrupted":
            typer.echo(f"{one.name}: the cached data could not be read and were computed again", err=True)
    if json:
        print_json([{**asdict(one), "files": [str(file) for file in one.files]} for one in built])
        return
    print_table(None, ("figure", "data", "takeaway"), [(one.name, one.data, one.caption) for one in built])
    typer.echo(f"{len(built)} figure{'s' * (len(built) != 1)} in {out}; {out / PAGE} shows all that are there")


@app.command()
def data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A figure; see figures list.")],
    fast: Fast = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the table: .parquet, .csv or .jsonl.")] = None,
    cache: Cache = None,
    results: Results = None,
    json: options.Json = False,
) -> None:
    """The tidy table behind a figure; in JSON, what is not finite is null."""
    from figures import registry
    from figures.build import configuration
    from figures.cache import fetch

    figure = registry.get(name)
    write = _writer(out)
    order = _order(fast=fast, cache=cache, results=results)
    found = fetch(figure, configuration(figure, order), order.cache)
    if found.source == "corrupted":
        typer.echo(f"{name}: the cached data could not be read and were computed again", err=True)
    table = found.data
    if write is not None:
        write(table)
    if json:
        print_json({"figure": name, "key": found.key, "rows": table.to_dict("records")})
        return
    if out is None:
        rows = [tuple(cell(value) for value in row) for row in table.head(SHOWN).itertuples(index=False)]
        print_table(figure.title, [str(column) for column in table.columns], rows)
    where = f"in {out}" if out is not None else f"the first {min(SHOWN, len(table))} shown; --out FILE or --json gives all"
    typer.echo(f"{len(table)} rows, {where}")


def _chosen(names: list[str] | None, all: bool) -> list[str]:
    from figures import registry

    if all and names:
        raise UserError("--all", None, f"builds every figure: leave out {names[0]}")
    if not all and not names:
        raise UserError("NAME", None, "name figures, or give --all; see figures list")
    chosen = registry.names() if all else list(dict.fromkeys(names or []))
    for name in chosen:
        registry.get(name)
    return chosen


def _order(*, cache: Path | None, **given: Any) -> Order:
    from figures.build import Order
    from figures.cache import default_folder

    return Order(cache=cache or default_folder(), **given)


def _writer(out: Path | None) -> Any:
    """What writes a table into a file of that ending; raises `UserError`."""
    if out is None:
        return None
    from theory.files import write_whole, writing

    options.writable("--out", out)
    kinds: dict[str, Any] = {
        ".parquet": lambda table, path: table.to_parquet(path),
        ".csv": lambda table, path: table.to_csv(path, index=False),
        ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
    }
    kind = kinds.get(out.suffix.lower())
    if kind is None:
        raise UserError("--out", out, f"must end in {', '.join(kinds)}")

    def write(table: Any) -> None:
        with writing("--out", out):
            write_whole(out, lambda path: kind(table, path))

    return write


def _with_bar(built: Any, total: int) -> list[Built]:
    """All that is built, with a progress bar on standard error."""
    found = []
    with Bar("drawing", total) as bar:
        for one in built:
            found.append(one)
            bar.advance(what=one.name)
    return found


def main() -> None:
    """Entry point."""
    keep_memory()
    sys.exit(program.run(app, sys.argv[1:]))


if __name__ == "__main__":
    main()

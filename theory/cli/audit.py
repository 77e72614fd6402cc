"""``theory audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import cell, print_answers, print_json, print_table
from theory.cli.groups import World, grouped
from theory.cli.progress import Bar
from theory.errors import UserError

if TYPE_CHECKING:
    from theory.audit.run import Audit
    from theory.audit.subject import Subject
    from theory.objectives import Objective

MATRIX_TITLE = "{count} objectives on {instance}"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit", context_settings=options.EXTRA)(grouped(audit))


def audit(
    context: typer.Context,
    method: Annotated[str | None, typer.Argument(help="An objective's name; see `theory methods`.")] = None,
    *,
    objective: options.ObjectiveFile = None,
    all_: Annotated[bool, typer.Option("--all", help="Every registered objective: the table method × property.")] = False,
    scan: Annotated[
        list[str] | None,
        typer.Option("--scan", help="Values of a hyperparameter to try: gamma-f=0,0.5,1,2,5. May be given several times."),
    ] = None,
    reward_head: options.RewardHead = "separate",
    oracle: options.Oracle = "learned",
    beta: Annotated[str | None, typer.Option("--beta", help="best (searched with the target), or a number to audit at.")] = None,
    world: World,
    seed: options.Seed = 0,
    tables: Annotated[bool, typer.Option("--tables", help="Print the tables behind the findings too.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the report as one self-contained page with pictures.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --all: keep each result here and resume from them.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="With --all: processes; 0 for one a core.")] = 0,
    json: options.Json = False,
) -> None:
    """The truth about an objective: consistency, rate, existence, robustness, over-optimisation, gradient, equivalences.

    Give METHOD or --objective path/to/file.py:name. The objective's own hyperparameters are options too.
    """
    options.writable("--html", html)
    method, extra = options.split_method(method, context.args)
    if all_:
        _refuse_with_all(extra, METHOD=method, **{"--objective": objective, "--scan": scan or None, "--beta": beta})
        from theory.cli.audit_all import run_all

        run_all(_auditable(world.load()), options.nonnegative("--seed", seed), reward_head, oracle, out, jobs, html, json=json)
        return
    if out is not None or jobs:
        option, value = ("--out", out) if out is not None else ("--jobs", jobs)
        raise UserError(option, value, "goes with --all; one audit is written by --html or --json")
    if method is None and objective is None and extra:
        raise UserError(extra[0], None, "is no option of this command; name an objective first (see `theory methods`)")
    if method is None and objective is None:
        raise UserError("METHOD", None, "name an objective (see `theory methods`), or give --objective file.py:name, or --all")
    subject = _subject(_objective(method, objective), extra, scan or [], reward_head, oracle, beta, world, seed)
    _report(_run(subject), html, tables=tables, json=json)


def _objective(method: str | None, file: str | None) -> Objective:
    try:
        return options.objective_of(method, file)
    except UserError as error:
        if error.argument != "--method":
            raise
        raise UserError("METHOD", error.value, error.remedy) from error


def _refuse_with_all(extra: list[str], **given: object) -> None:
    for name, value in {**given, **({extra[0]: ""} if extra else {})}.items():
        if value is not None:
            raise UserError(name, None, "cannot be combined with --all")


def _subject(
    chosen: Objective, extra: list[str], scan: list[str], reward_head: str, oracle: str, beta: str | None, world: World, seed: int
) -> Subject:
    from theory.audit.subject import Subject

    if beta == "validation":
        raise UserError("--beta", beta, "an audit asks for the best value in the population (best), or a number")
    settings = options.settings_of(chosen, extra, beta=beta, reward_head=reward_head, oracle=oracle, seed=seed)
    scans = dict(_scan(chosen, text) for text in scan)
    return Subject(chosen, settings.values, settings.options, _auditable(world.load()), seed, scans)


def _auditable(instance: Any) -> Any:
    """The instance, if its table is small enough for an audit within a minute."""
    largest = 20_000
    if instance.contexts * instance.vocab**2 > largest:
        size = f"{instance.contexts} × {instance.vocab}²"
        raise UserError(
            "--vocab", instance.vocab, f"an audit takes tables of up to X·V² = {largest:,} cells; this one has {size}"
        )
    return instance


def _scan(chosen: Objective, text: str) -> tuple[str, list[float]]:
    """A hyperparameter and the values to try, from ``name=v1,v2``."""
    name, equals, values = text.partition("=")
    known = {p.option[2:]: p for p in chosen.hyperparameters if p != chosen.tuned}
    if not equals or name not in known:
        remedy = "give it as name=value,value with one of: " + (", ".join(known) or f"none: {chosen.name} has nothing to scan")
        raise UserError("--scan", text, remedy)
    numbers = [options.parse_number(f"--scan {name}", value) for value in values.split(",")]
    return known[name].name, [known[name].check(number) for number in numbers]


def _run(subject: Subject) -> Audit:
    from theory.audit.run import SECTIONS, audit
    from theory.process import use_threads

    use_threads(subject.instance.vocab, subject.instance.contexts)
    with Bar("auditing", len(SECTIONS)) as bar:
        done = iter(range(len(SECTIONS) + 1))
        return audit(subject, lambda title: bar.reach(next(done), what=title))


def _report(made: Audit, html: Path | None, *, tables: bool, json: bool) -> None:
    if html is not None:
        from theory.audit.page import write

        write(html, made)
    if json:
        print_json(made.record())
        return
    subject = made.subject
    typer.echo(f"{subject.objective.name}: {subject.objective.sections.get('equation') or subject.objective.title}")
    typer.echo(f"{subject.describe(subject.instance)}; {made.seconds:.0f} s\n")
    for section in made.sections:
        print_answers(section.title, [(f.question, f.verdict, f.answer) for f in section.findings])
        for table in section.tables if tables else ():
            print_table(table.title, table.columns, [[cell(value) for value in row] for row in table.rows])
    if html is not None:
        typer.echo(f"report written to {html}")
    elif not tables:
        typer.echo("--html FILE has the pictures and tables, --tables prints the tables, --json everything.")

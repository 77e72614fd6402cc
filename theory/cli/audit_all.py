"""``theory audit --all``: every registered objective, in parallel, resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from theory.cli.audit import MATRIX_TITLE
from theory.cli.console import plain, print_json, print_table
from theory.cli.progress import Bar
from theory.errors import UserError
from theory.files import write_whole

if TYPE_CHECKING:
    from theory.instances import Instance
    from theory.solvers.options import Options


def run_all(
    instance: Instance,
    seed: int,
    reward_head: str,
    oracle: str,
    out: Path | None,
    jobs: int,
    html: Path | None,
    *,
    json: bool,
) -> None:
    """Audit every objective and print the table method × property."""
    from theory.audit.run import MATRIX, READING, families, matrix
    from theory.cli import options

    words = (("--reward-head", reward_head, ("separate", "tied")), ("--oracle", oracle, ("learned", "true")))
    head, source = (options.one_of(*word) for word in words)
    fitting = options.Options(reward_head=head, oracle=source, seed=seed)
    records = _audits(instance, fitting, seed, _folder(out), jobs)
    if html is not None:
        from theory.audit.page import write_matrix

        write_matrix(html, records)
    if json:
        print_json(records)
        return
    title = MATRIX_TITLE.format(count=len(records), instance=records[0]["instance"])
    print_table(title, ("method", *MATRIX), matrix(records))
    typer.echo(READING)
    for family in families(records):
        typer.echo(f"one population minimiser, at some values of their hyperparameters: {', '.join(family)}")
    typer.echo("`theory audit METHOD` shows the numbers behind a row.")


def _folder(out: Path | None) -> Path | None:
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError("--out", out, f"cannot be made: {error.strerror or error}") from error
    return out


def _audits(instance: Instance, fitting: Options, seed: int, out: Path | None, jobs: int) -> list[dict[str, Any]]:
    """The records in alphabetical order, kept ones not computed again, with a progress bar."""
    from theory.objectives import names

    every = names()
    found = {name: record for name in every if (record := _kept(out, name, instance, fitting, seed)) is not None}
    with Bar("auditing", len(every), len(found)) as bar:
        for record in _compute([name for name in every if name not in found], instance, fitting, seed, jobs):
            found[record["method"]] = record
            _keep(out, record, instance, fitting, seed)
            bar.advance(what=record["method"])
    return [found[name] for name in every]


def _compute(missing: list[str], instance: Instance, fitting: Options, seed: int, jobs: int) -> Iterator[dict[str, Any]]:
    from joblib import Parallel, cpu_count, delayed

    jobs = min(jobs or cpu_count(), len(missing)) or 1
    calls = (delayed(_one)(name, instance, fitting, seed) for name in missing)
    yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)


def _one(name: str, instance: Instance, fitting: Options, seed: int) -> dict[str, Any]:
    """One audit in a worker."""
    from theory.audit.run import audit
    from theory.audit.subject import Subject
    from theory.objectives import get
    from theory.process import use_threads

    use_threads(instance.vocab, instance.contexts)
    record: dict[str, Any] = plain(audit(Subject(get(name), {}, fitting, instance, seed)).record())
    return record


def _setting(instance: Instance, fitting: Options, seed: int) -> dict[str, Any]:
    """What a kept result must have been computed with to be used again."""
    import hashlib

    from theory import __version__

    digest = hashlib.sha256()
    arrays = (instance.target, instance.reference, instance.data_policy, instance.context_weights)
    for array in arrays:
        digest.update(array.tobytes())
    return {"version": __version__, "world": digest.hexdigest(), "gamma": instance.gamma, "seed": seed, **vars(fitting)}


def _kept(out: Path | None, name: str, instance: Instance, fitting: Options, seed: int) -> dict[str, Any] | None:
    if out is None or not (file := out / f"{name}.json").exists():
        return None
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:  # an interrupted write of another program: computed again
        return None
    same = isinstance(kept, dict) and kept.get("setting") == _setting(instance, fitting, seed)
    return kept["record"] if same else None


def _keep(out: Path | None, record: dict[str, Any], instance: Instance, fitting: Options, seed: int) -> None:
    if out is None:
        return
    text = json.dumps({"setting": _setting(instance, fitting, seed), "record": record}, ensure_ascii=False, indent=1)
    write_whole(out / f"{record['method']}.json", lambda path: path.write_text(text, encoding="utf-8"))

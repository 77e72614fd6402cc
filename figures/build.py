"""Building figures: data from the cache or computed, pictures drawn only where something changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib

from figures import cache, drawing, page, records, registry
from figures.drawing import FORMATS, render
from figures.figure import Figure
from theory import __version__
from theory.errors import UserError, nearest
from theory.files import write_whole, writing
from theory.process import keep_memory


@dataclass(frozen=True)
class Order:
    """What is to be built.

    Attributes:
        fast: with less work.
        formats: of `FORMATS`.
        out: where pictures, captions and records go.
        cache: the folder of computed data.
        results: the folder of language-model results, or None for the committed ones.
    """

    fast: bool = False
    formats: tuple[str, ...] = FORMATS
    out: Path = Path("pictures")
    cache: Path = Path()
    results: Path | None = None

    def files(self, name: str) -> tuple[Path, ...]:
        """The pictures that are asked for of a figure."""
        return tuple(self.out / f"{name}.{kind}" for kind in self.formats)


@dataclass(frozen=True)
class Built:
    """One figure built.

    Attributes:
        name: the figure's.
        files: the pictures.
        caption: its takeaway.
        data: where its data came from: ``computed``, ``cache``, ``corrupted`` (rebuilt) or ``unchanged`` (nothing was
            to be done).
        key: of the data.
    """

    name: str
    files: tuple[Path, ...]
    caption: str
    data: str
    key: str


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats of a list with commas; raises `UserError`."""
    found = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for name in found:
        if name not in FORMATS:
            raise UserError("--formats", name, nearest(name, FORMATS))
    if not found:
        raise UserError("--formats", text, f"name at least one of {', '.join(FORMATS)}")
    return found


def configuration(figure: Figure, order: Order) -> Any:
    """The configuration that an order means for a figure."""
    config = figure.fast if order.fast else figure.config
    if figure.results is not None and order.results is not None:
        return replace(config, results=str(order.results))
    return config


def check(names: Sequence[str], order: Order) -> None:
    """Raise `UserError` for an order that cannot be carried out, before anything is computed or written."""
    for name in names:
        figure = registry.get(name)
        if figure.results is not None:
            cache.results_file(figure, configuration(figure, order))
    cache.try_writing("--out", order.out)
    cache.try_writing("--cache", order.cache)
    page.check(order.out)


def build_all(names: Sequence[str], order: Order, jobs: int) -> Iterator[Built]:
    """Build figures in parallel processes, each given as it is done, and the page of all in the folder.

    Args:
        names: the figures.
        order: what is to be built of them.
        jobs: processes; -1 for one a core.

    Raises:
        UserError: see `check`; or a figure's own; or a process was killed.
    """
    check(names, order)
    todo = []
    for name in names:
        done = up_to_date(name, order)
        if done is None:
            todo.append(name)
        else:
            yield done
    yield from _build_alone(todo, order) if len(todo) < 2 or jobs == 1 else _build_together(todo, order, jobs)
    with writing("--out", order.out):
        page.write(order.out)


def _build_alone(names: Sequence[str], order: Order) -> Iterator[Built]:
    return (build(name, order) for name in names)


def _build_together(names: Sequence[str], order: Order, jobs: int) -> Iterator[Built]:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    refused = []
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        try:
            for found in parallel(joblib.delayed(_work)(name, order) for name in names):
                if isinstance(found, Built):
                    yield found
                else:
                    refused.append(found)
        except TerminatedWorkerError:
            remedy = "a process was killed, perhaps for want of memory: run again with --jobs 1; what is done is kept"
            raise UserError("--jobs", jobs, remedy) from None
    if refused:  # only now, so that the others are built
        raise refused[0]


def _work(name: str, order: Order) -> Built | UserError:
    """A figure built, or why it is refused: returned, so that the others go on."""
    keep_memory()
    try:
        return build(name, order)
    except UserError as error:
        return error


def build(name: str, order: Order) -> Built:
    """Build one figure: ``NAME.FORMAT``, ``NAME.txt`` (its caption) and ``NAME.json`` (what made it).

    Pictures of other formats that lie there are kept if they show the same, and removed if they show older data.

    Raises:
        UserError: see `cache.fetch`; or the folder cannot be written.
    """
    figure = registry.get(name)
    config = configuration(figure, order)
    try:
        found = cache.fetch(figure, config, order.cache)
        caption = figure.caption(found.data)
        drawn = render(figure, found.data)
    except Exception as error:
        error.add_note(f"while building the figure {name}")
        raise
    files = order.files(name)
    with writing("--out", order.out):
        order.out.mkdir(parents=True, exist_ok=True)
        for file in files:
            write_whole(file, partial(drawing.save, drawn, file.suffix[1:]))
        made = records.Record(
            figure=name,
            title=figure.title,
            source=figure.source,
            caption=caption,
            fast=config != configuration(figure, replace(order, fast=False)),
            config=cache.settings(figure, config),
            key=found.key,
            drawing=drawing.digest(figure),
            version=__version__,
            width=float(drawn.get_size_inches()[0]),
            files={file.name: str(records.hash_of(file)) for file in files},
        )
        _with_earlier(made, order.out).write(order.out)
    return Built(name, files, caption, found.source, found.key)


def _with_earlier(made: records.Record, folder: Path) -> records.Record:
    """The record with what an earlier one still holds; a picture of older data beside a new caption would mislead."""
    earlier = records.read(folder, made.figure)
    if earlier is None:
        return made
    others = {name: hash for name, hash in earlier.files.items() if name not in made.files and earlier.holds(folder / name)}
    if made.same_picture(earlier):
        return replace(made, files={**others, **made.files})
    for name in others:
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    return made


def up_to_date(name: str, order: Order) -> Built | None:
    """What was built, if the same order would build it again and the files are still those; else None."""
    record = records.read(order.out, name)
    if record is None:
        return None
    figure = registry.get(name)
    key = cache.data_key(figure, configuration(figure, order))
    if (record.key, record.drawing) != (key, drawing.digest(figure)):
        return None
    files = order.files(name)
    if not record.captioned(order.out) or not all(record.holds(file) for file in files):
        return None
    return Built(name, files, record.caption, "unchanged", record.key)

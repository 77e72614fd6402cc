"""Building figures: data from the cache or computed, pictures drawn only where something changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib

from figures import cache, code, registry
from figures.figure import Figure
from theory import __version__
from theory.errors import UserError, nearest

FORMATS = ("pdf", "svg", "png")


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
    for argument, folder in (("--out", order.out), ("--cache", order.cache)):
        with cache.writable(argument, folder):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise UserError(argument, folder, "cannot be written: choose another folder")


def build_all(names: Sequence[str], order: Order, jobs: int) -> Iterator[Built]:
    """Build figures in parallel processes, each given as it is done.

    Raises:
        UserError: see `check`; or a figure's own.
    """
    check(names, order)
    todo = []
    for name in names:
        done = up_to_date(name, order)
        if done is None:
            todo.append(name)
        else:
            yield done
    if len(todo) < 2 or jobs == 1:
        for name in todo:
            yield build(name, order)
        return
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        for found in parallel(joblib.delayed(_work)(name, order) for name in todo):
            if isinstance(found, tuple):  # an error of several arguments does not survive the way between processes
                raise UserError(*found)
            yield found


def _work(name: str, order: Order) -> Built | tuple[str, Any, str]:
    try:
        return build(name, order)
    except UserError as error:
        return error.argument, error.value, error.remedy


def build(name: str, order: Order) -> Built:
    """Build one figure: ``NAME.FORMAT``, ``NAME.txt`` (its caption) and ``NAME.json`` (what made it)."""
    figure = registry.get(name)
    config = configuration(figure, order)
    found = cache.fetch(figure, config, order.cache)
    caption = figure.caption(found.data)
    files = tuple(order.out / f"{name}.{kind}" for kind in order.formats)
    with cache.writable("--out", order.out):
        order.out.mkdir(parents=True, exist_ok=True)
        drawn = render(figure, found.data)
        for file in files:
            cache.replace(file, partial(_save, drawn, file.suffix[1:]))
        record = _record(figure, config, found, order, caption, files)
        cache.replace(order.out / f"{name}.txt", lambda path: path.write_text(caption + "\n", encoding="utf-8"))
        text = json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n"
        cache.replace(order.out / f"{name}.json", lambda path: path.write_text(text, encoding="utf-8"))
    return Built(name, files, caption, found.source, found.key)


def render(figure: Figure, data: Any) -> Any:
    """The figure drawn at print size, as matplotlib's; its ``axes`` hold the data again."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    from figures import style

    layout = figure.layout
    with rc_context(style.RC):
        width = style.TWO_COLUMNS if layout.wide else style.ONE_COLUMN
        canvas = Canvas(figsize=(width, layout.height), layout="constrained")
        FigureCanvasAgg(canvas)
        panels = canvas.subplots(layout.rows, layout.columns, squeeze=False)
        figure.draw(data, list(panels.flat))
        canvas.draw_without_rendering()  # the layout is final before labels of another format move
    return canvas


def _save(canvas: Any, kind: str, path: Path) -> None:
    from matplotlib import rc_context

    from figures import style

    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[kind]
    with rc_context(style.RC):
        canvas.savefig(path, format=kind, metadata=metadata)


def up_to_date(name: str, order: Order) -> Built | None:
    """What was built, if the same order would build it again and the files are still those; else None."""
    try:
        record = json.loads((order.out / f"{name}.json").read_text(encoding="utf-8"))
        figure = registry.get(name)
        if record["key"] != cache.data_key(figure, configuration(figure, order)) or record["drawing"] != _drawing(figure):
            return None
        files = tuple(order.out / f"{name}.{kind}" for kind in order.formats)
        if any(record["files"].get(file.name) != _hash(file) for file in files):
            return None
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return Built(name, files, record["caption"], "unchanged", record["key"])


def _record(figure: Figure, config: Any, found: cache.Found, order: Order, caption: str, files: Sequence[Path]) -> dict[str, Any]:
    return {
        "figure": figure.name,
        "title": figure.title,
        "source": figure.source,
        "caption": caption,
        "fast": order.fast,
        "config": asdict(config),
        "key": found.key,
        "drawing": _drawing(figure),
        "version": __version__,
        "files": {file.name: _hash(file) for file in files},
    }


def _drawing(figure: Figure) -> str:
    """What decides the picture beside the data: our code and matplotlib's version."""
    import matplotlib

    parts = [matplotlib.__version__, code.digest(figure.data.__module__), code.digest("figures.build")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]

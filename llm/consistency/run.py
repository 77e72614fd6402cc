"""Running a study: cells in parallel, each stored as soon as it is done."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers

from llm.config import flag
from llm.consistency import table
from llm.consistency.cell import Row, arguments, train, treatment_of
from llm.consistency.study import LARGEST_N, Cell, Limit, Study, cells
from llm.consistency.table import Method
from llm.world.reference import fit_reference
from theory import __version__
from theory.errors import UserError
from theory.files import write_whole, writing
from theory.sweeps.store import Store

RESULTS = "results.parquet"
REFERENCES = "references"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """A study's rows, by method, n and seed; and how many cells there were already, of how many, and how many broken."""

    rows: list[Row]
    before: int
    total: int
    broken: int


def check(study: Study) -> None:
    """Raise `UserError` for a study that cannot be run, before anything is made."""
    if not study.methods:
        raise UserError("--methods", None, "name at least one; see theory methods")
    if study.seeds < 1:
        raise UserError("--seeds", study.seeds, "must be at least 1")
    if study.seed < 0:
        raise UserError("--seed", study.seed, "must be zero or positive")
    if (largest := max(study.sizes)) > LARGEST_N:
        raise UserError("--n", f"{largest:g}", f"must be at most {LARGEST_N:g}: every comparison is drawn and trained on")
    for key in ("max_steps", "per_device_train_batch_size"):
        if study.training.get(key, 1) < 1:
            raise UserError(flag(key), study.training[key], "must be at least 1")
    if not study.training.get("learning_rate", 1.0) > 0:
        raise UserError("--learning-rate", study.training["learning_rate"], "must be positive")
    table.require_table(study.language)
    names = [method.objective.name for method in study.methods]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError("--methods", twice[0], "is named twice")
    for method in study.methods:
        objective = method.objective
        first = Cell(study, method, Limit(method.objective.resolve(method.values), 0.0), study.sizes[0], 0)
        try:
            treatment_of(first)
        except UserError as error:
            raise UserError("--methods", objective.name, error.remedy) from error
        if not objective.reads("logp"):
            raise UserError("--methods", objective.name, "trains no policy")
        arguments(first, os.devnull)


@dataclass(frozen=True)
class Job:
    """What is made of each cell.

    Attributes:
        rows: computes a cell's rows, given the folder of the reference where it starts.
        name: of the part that holds them.
        results: the file of all rows.
    """

    rows: Callable[[Cell, str], list[Row]]
    name: Callable[[Cell], str]
    results: str


def run_study(
    study: Study,
    out: Path,
    *,
    jobs: int,
    say: Say,
    expect: Callable[[int], None],
    report: Callable[[int], None],
    job: Job | None = None,
) -> Done:
    """Compute what is missing in a directory, storing every cell as it arrives; the job's ``results`` has them all.

    Args:
        study: one that `check` passed.
        out: the directory, made if need be.
        jobs: worker processes, one thread each (−1 for one a core).
        say: told what is being done.
        expect: called once with the number of cells to train.
        report: called with the number of cells that have just been stored.
        job: what is made of each cell; one row of `llm.consistency.cell.train` if None.

    Raises:
        UserError: the directory cannot be written or belongs to another study.
    """
    job = job or Job(_row, lambda cell: cell.name, RESULTS)
    store = Store(out)
    store.open(_manifest(study))
    with writing("--out", out), _quiet():
        say("reference policy")
        reference = fit_reference(study.language, out / REFERENCES, study.fitting)
        limits = [_limit(study, method, store, say) for method in study.methods]
        every = list(cells(study, limits))
        missing = [cell for cell in every if not store.has(job.name(cell))]
        broken = sum(store.exists(job.name(cell)) for cell in missing)
        expect(len(missing))
        with joblib.parallel_config(backend="loky"):
            parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs")
            # Looked up again when its turn comes: another process may have been there.
            left = (cell for cell in missing if not store.has(job.name(cell)))
            work = (joblib.delayed(_work)(job.rows, cell, job.name(cell), str(reference.path)) for cell in left)
            for name, rows in parallel(work):
                store.write(name, rows)
                report(1)
    names = [method.objective.name for method in study.methods]
    rows = store.read([job.name(cell) for cell in every]).to_pylist()
    rows.sort(key=lambda row: (names.index(row["method"]), row["n"], row["seed"]))
    with writing("--out", out):
        write_whole(out / job.results, lambda path: pq.write_table(pa.Table.from_pylist(rows), path))
    return Done(rows, len(every) - len(missing), len(every), broken)


def _limit(study: Study, method: Method, store: Store, say: Say) -> Limit:
    """A method's hyperparameters and floor, computed once and kept."""
    name = f"{method.objective.name}-limit-{study.digest(method, method.rule)}.parquet"
    if not store.has(name):
        say(f"{method.objective.name} in the limit of many comparisons")
        hyper, floor = table.limit(study.language, method)
        store.write(name, [{"hyperparameters": json.dumps(hyper), "floor": floor}])
    (row,) = store.read([name]).to_pylist()
    return Limit(json.loads(row["hyperparameters"]), row["floor"])


def _row(cell: Cell, reference: str) -> list[Row]:
    return [train(cell, reference)]


def _work(rows: Callable[[Cell, str], list[Row]], cell: Cell, name: str, reference: str) -> tuple[str, list[Row]]:
    """The name and rows of a cell."""
    torch.set_num_threads(1)
    with _quiet():
        return name, rows(cell, reference)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of the libraries' on standard output, where a program reads ours, and no bars for small files."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    trl = logging.getLogger("trl")
    before = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled(), trl.level
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.filterwarnings("ignore", category=FutureWarning)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        trl.setLevel(logging.ERROR)
        try:
            yield
        finally:
            transformers.logging.set_verbosity(before[0])
            if before[1]:
                transformers.logging.enable_progress_bar()
            trl.setLevel(before[2])


def _manifest(study: Study) -> dict[str, Any]:
    """What is written beside the results; each row has its own configuration."""
    language = study.language
    return {
        "instance": language.name,
        "instance_digest": language.fingerprint,
        **{name: getattr(language, name) for name in ("tokens", "length", "prompts", "order", "gamma")},
        "seed": study.seed,
        "fitting": asdict(study.fitting),
        "version": __version__,
    }

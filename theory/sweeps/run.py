"""Running a sweep: chunks in parallel, each stored as soon as it is done."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

import joblib
import torch

from theory import __version__
from theory.errors import UserError
from theory.instances import Instance, save_instance
from theory.process import keep_memory
from theory.simulation import Outcome, Settings, draw_data, make_task, solve
from theory.statistics.efficiency import LARGEST_VOCAB, asymptotic_constant
from theory.sweeps.plan import Chunk, Plan, configuration, instance_digest
from theory.sweeps.store import Store

Row = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """The chunks of several methods on the same data: they share the draw and the reward fit."""

    chunks: tuple[Chunk, ...]

    def rows(self) -> list[tuple[str, list[Row]]]:
        """Each chunk's name and rows."""
        first = self.chunks[0]
        plan = first.plan
        data = draw_data(plan.instance, first.n, plan.seed, first.replicates)
        tasks: dict[Any, Any] = {}
        results = []
        for chunk in self.chunks:
            settings = chunk.settings
            key = (settings.options, settings.policy_class, settings.reward_class)
            if key not in tasks:
                tasks[key] = make_task(plan.instance, data, settings)
            start = time.perf_counter()
            outcome = solve(plan.instance, tasks[key], settings)
            results.append((chunk.name, _rows(chunk, outcome, time.perf_counter() - start)))
        return results


def _rows(chunk: Chunk, outcome: Outcome, seconds: float) -> list[Row]:
    plan, settings = chunk.plan, chunk.settings
    tuned = settings.objective.tuned
    shared = {
        **configuration(settings),
        "n": chunk.n,
        "root_seed": plan.seed,
        "certificate": outcome.kind,
        "starts": outcome.starts,
        "seconds": seconds / len(chunk.replicates),
        "instance": instance_digest(plan.instance),
        "version": __version__,
    }
    rows = []
    for i, replicate in enumerate(chunk.replicates):
        hyper = {name: float(value[i]) for name, value in outcome.hyper.items()}
        rows.append(
            {
                **shared,
                "hyperparameters": json.dumps(hyper),
                "beta": hyper[tuned.name] if tuned else None,
                "seed": replicate,
                "forward_kl": float(outcome.forward_kl[i]),
                "reverse_kl": float(outcome.reverse_kl[i]),
                "total_variation": float(outcome.total_variation[i]),
                "finite": None if outcome.undecided[i] else bool(outcome.finite[i]),
                "gradient_norm": float(outcome.gradient_norm[i]),
                "iterations": int(outcome.iterations[i]),
                "agreeing_starts": int(outcome.agreeing[i]),
            }
        )
    return rows


def manifest(plan: Plan) -> Row:
    """What is written beside the results: the instance, the random root and the statistical limit."""
    instance = plan.instance
    return {
        "instance": instance.name,
        "instance_digest": instance_digest(instance),
        "vocab": instance.vocab,
        "contexts": instance.contexts,
        "gamma": instance.gamma,
        "seed": plan.seed,
        "asymptotic_constant": asymptotic_constant(instance) if instance.vocab <= LARGEST_VOCAB else None,
        "version": __version__,
    }


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: chunks stored before it started, chunks in all, files found broken."""

    done: int
    total: int
    broken: int


def run_sweep(
    plan: Plan, store: Store, *, jobs: int, backend: str, expect: Callable[[int], None], report: Callable[[int], None]
) -> Progress:
    """Compute what is missing in ``store``, storing every chunk as it arrives.

    Args:
        jobs: worker processes (−1 for one a core).
        backend: ``loky`` or ``dask:ADDRESS``.
        expect: called once with the number of chunks to compute.
        report: called with the number of chunks that have just been stored.

    Raises:
        UserError: the directory cannot be written or belongs to another sweep, or the cluster
            cannot be reached.
    """
    store.open(manifest(plan))
    if not (store.root / "instance.npz").exists():
        save_instance(plan.instance, store.root / "instance.npz")
    chunks = list(plan.chunks())
    missing = [chunk for chunk in chunks if not store.has(chunk.name)]
    before = Progress(len(chunks) - len(missing), len(chunks), sum(store.exists(chunk.name) for chunk in missing))
    expect(len(missing))
    with _backend(backend):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs")
        for results in parallel(_still_missing(missing, store)):
            for name, rows in results:
                store.write(name, rows)
            report(len(results))
    return before


def _data_of(chunk: Chunk) -> tuple[float, range]:
    """Chunks of one n and one range of data sets share their data."""
    return chunk.n, chunk.replicates


def _still_missing(chunks: Iterable[Chunk], store: Store) -> Iterator[Any]:
    """Blocks to compute, looked up again when their turn comes: another process may have been there."""
    for _, group in groupby(chunks, key=_data_of):
        block = tuple(chunk for chunk in group if not store.has(chunk.name))
        if block:
            yield joblib.delayed(_work)(Block(block))


def _work(block: Block) -> list[tuple[str, list[Row]]]:
    torch.set_num_threads(1)
    keep_memory()
    return block.rows()


@contextmanager
def _backend(name: str) -> Iterator[None]:
    """joblib's backend of that name; a client of a cluster is closed again."""
    if name == "loky":
        with joblib.parallel_config(backend="loky"):
            yield
        return
    kind, _, address = name.partition(":")
    if kind != "dask" or not address:
        raise UserError("--backend", name, "must be loky or dask:ADDRESS, such as dask:tcp://127.0.0.1:8786")
    try:
        from distributed import Client
    except ImportError:
        raise UserError("--backend", name, "needs the cluster extra: pip install 'prefproof[dask]'") from None
    try:
        _knock(address)
        client = Client(address, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError("--backend", name, f"no scheduler answers there ({type(error).__name__})") from error
    with client, joblib.parallel_config(backend="dask"):
        yield


def _knock(address: str) -> None:
    """Raise `OSError` if nothing listens there, before a client starts to retry and to log."""
    place = urlsplit(address if "://" in address else f"tcp://{address}")
    if place.scheme in ("tcp", "tls"):
        socket.create_connection((place.hostname or "", place.port or 8786), timeout=10).close()


def compute(plan: Plan) -> Iterator[Row]:
    """All rows of a sweep, computed here, one block of data after the other, and stored nowhere."""
    for _, group in groupby(plan.chunks(), key=_data_of):
        for _, rows in Block(tuple(group)).rows():
            yield from rows


def curve(instance: Instance, settings: Settings, sizes: Iterable[float], seeds: int, seed: int = 0) -> list[Row]:
    """Rows of one method over ``sizes`` and its population."""
    return list(compute(Plan(instance, (settings,), tuple(sizes), seeds, seed)))

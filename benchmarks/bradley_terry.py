"""A thousand Bradley–Terry fits against the libraries that people use for one."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from benchmarks.environment import cores
from benchmarks.peers import Matrix, Peer, gradient_norm, peers
from benchmarks.record import Measure, Record
from benchmarks.timing import median_seconds, threads
from theory.instances import Instance, random_instance
from theory.objectives import get
from theory.sampling import WinCounts, draw
from theory.simulation import Settings, world_of
from theory.solvers.options import Options
from theory.solvers.tabletask import TableTask

ACCURACY = 1e-8
TOLERANCES = tuple(10.0**-k for k in range(3, 14))
N = 10**6
MICRO = 1e6


def benchmark(quick: bool) -> Record:
    seeds, repetitions = (3, 2) if quick else (100, 7)
    instance = random_instance()
    data = draw(instance, N, 0, range(seeds))
    wins = data.wins.reshape(-1, instance.vocab, instance.vocab)
    _check_connected(wins)
    with threads(1):
        ours = _ours(instance, data, wins, repetitions)
        theirs = {peer.name: _theirs(peer, wins, repetitions) for peer in peers()}
    with threads(cores()):
        spread = _ours(instance, data, wins, repetitions)
    public = {name: found for name, found in theirs.items() if "._" not in name}
    fastest = min(public, key=lambda name: public[name]["microseconds"])
    gradient = max(ours["gradient_norm"], spread["gradient_norm"])
    return Record(
        "bradley_terry",
        f"{len(wins)} win matrices of V = {instance.vocab}, the same for all ({seeds} data sets of n = {N:g} on the default "
        f"instance's {instance.contexts} contexts, all strongly connected): our batched fit without ridge against a loop over "
        "each peer. A peer's inputs (aggregated pairs with their counts as weights) are built outside the timed region, and its "
        f"tolerance is the loosest power of ten at which every fit reaches a gradient of {ACCURACY:g}. Medians of {repetitions}, "
        "one thread.",
        (
            Measure(f"speed over {fastest}", public[fastest]["microseconds"] / ours["microseconds"], "x", 10.0, at_most=False),
            Measure("our largest gradient (max-norm, per comparison)", gradient, "", target=ACCURACY),
            Measure("our time per fit", ours["microseconds"], "µs"),
            *(Measure(f"{name} time per fit", found["microseconds"], "µs") for name, found in theirs.items()),
        ),
        {
            "matrices": len(wins),
            "repetitions": repetitions,
            "ours": ours,
            f"ours_on_{cores()}_threads": spread,
            "peers": theirs,
            "note": "evalica._brzo.newman is evalica's compiled core without its pandas interface, a private function; the ratio "
            "is against the faster of the two public ones.",
        },
    )


def _check_connected(wins: Matrix) -> None:
    for matrix in wins:
        if connected_components(matrix > 0, directed=True, connection="strong")[0] != 1:
            raise RuntimeError("a win matrix is not strongly connected: there is no finite fit to compare")


def _ours(instance: Instance, data: WinCounts, wins: Matrix, repetitions: int) -> dict[str, Any]:
    options = Options(ridge=0.0)
    world = world_of(instance, Settings(get("reward"), options=options))
    found = TableTask(data, world, options).reward_fit
    scores = found.reward.reshape(-1, instance.vocab).numpy()
    wall = median_seconds(lambda: TableTask(data, world, options).reward_fit, repetitions)
    return {
        "microseconds": wall / len(wins) * MICRO,
        "gradient_norm": _worst(wins, scores),
        "iterations": int(found.iterations.max()),
    }


def _theirs(peer: Peer, wins: Matrix, repetitions: int) -> dict[str, Any]:
    for tolerance in TOLERANCES:
        calls = [peer.prepare(matrix, tolerance) for matrix in wins]
        reached = _worst(wins, np.array([peer.scores(call()) for call in calls]))
        if reached <= ACCURACY:
            break
    wall = median_seconds(lambda: [call() for call in calls], repetitions)
    return {"microseconds": wall / len(wins) * MICRO, "gradient_norm": reached, "tolerance": tolerance}


def _worst(wins: Matrix, scores: Matrix) -> float:
    return max(gradient_norm(matrix, score) for matrix, score in zip(wins, scores, strict=True))

"""Repeated timings in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], repetitions: int, *, warm: bool = True) -> float:
    """Median wall time of repeated calls, after one that does not count."""
    if warm:
        work()
    return median(seconds(work) for _ in range(repetitions))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with ``count`` torch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

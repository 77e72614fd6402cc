"""Settings of the process, made by the programs and never on import."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def keep_memory() -> None:
    """Let glibc keep freed tables for the next ones instead of returning them to the system.

    Tables of pairs are allocated and freed thousands of times a second at sizes that malloc would
    map and unmap anew; faulting the pages in again took a quarter of the time.
    """
    trim_threshold, mmap_threshold = -1, -3
    with suppress(OSError, AttributeError):  # not glibc: nothing to do
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 28)
        libc.mallopt(trim_threshold, 1 << 29)


# Below this many table cells a second thread costs more to wake than it saves.
SMALL_TABLE = 200_000


def use_threads(cells: int) -> None:
    """One thread for tables of pairs of at most `SMALL_TABLE` cells, torch's own choice above."""
    if cells <= SMALL_TABLE:
        import torch

        torch.set_num_threads(1)

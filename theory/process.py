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


# Below this many cells of a table of pairs a second thread costs more to wake than it saves.
SMALL_TABLE = 200_000


def use_threads(vocab: int, contexts: int) -> None:
    """Torch's own choice of threads for a large table of pairs; one for a small one or a list of pairs."""
    import torch

    from theory.sampling import is_dense

    if contexts * vocab**2 <= SMALL_TABLE or not is_dense(vocab, contexts):
        torch.set_num_threads(1)

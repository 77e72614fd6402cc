"""Commands run as a user runs them, with their wall time and the memory of their whole process tree."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

PERIOD = 0.1
MIB = 2**20
THEORY = str(Path(sys.executable).parent / "theory")
# `make` keeps pytest's workers to one thread; a user's shell does not, so neither do these commands.
UNSET = ("OMP_NUM_THREADS",)


@dataclass(frozen=True)
class Run:
    """One finished command.

    Attributes:
        seconds: wall time.
        output: its standard output.
        tree_pss: largest sum of the tree's proportional set sizes (shared pages counted once), MiB.
        peak_rss: the first process's own high-water mark of resident memory, MiB.
        processes: the most processes that the tree had at once.
        sampling: CPU seconds that the sampling cost, all of them inside the wall time.
    """

    seconds: float
    output: str
    tree_pss: float = 0.0
    peak_rss: float = 0.0
    processes: int = 0
    sampling: float = 0.0


def run(command: list[str], *, memory: bool = False) -> Run:
    """Run a command to its end; raises `RuntimeError` with its last words if it fails.

    With ``memory`` the tree is sampled every `PERIOD` seconds.
    """
    env = {name: value for name, value in os.environ.items() if name not in UNSET}
    start = time.perf_counter()
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    sampler = _Sampler(child.pid)
    if memory:
        sampler.start()
    output, errors = child.communicate()
    seconds = time.perf_counter() - start
    if memory:
        sampler.stop()
    if child.returncode:
        raise RuntimeError(f"{Path(command[0]).name} {' '.join(command[1:])} failed: {errors.strip()[-500:]}")
    return Run(seconds, output, sampler.tree_pss / MIB, sampler.peak_rss / MIB, sampler.processes, sampler.cost)


class _Sampler(threading.Thread):
    """Keeps the largest memory seen of a process and its descendants."""

    def __init__(self, root: int):
        super().__init__(daemon=True)
        self.root = root
        self.tree_pss = self.peak_rss = self.processes = 0
        self.cost = 0.0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(PERIOD):
            pids = tree(self.root)
            self.tree_pss = max(self.tree_pss, sum(_field(pid, "smaps_rollup", "Pss:") for pid in pids))
            self.peak_rss = max(self.peak_rss, _field(self.root, "status", "VmHWM:"))
            self.processes = max(self.processes, len(pids))
            self.cost = time.thread_time()

    def stop(self) -> None:
        self._done.set()
        self.join()


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            text = _read(entry / "stat")
            if text:  # pid (name, which may hold anything) state ppid …
                children[int(text.rpartition(")")[2].split()[1])].append(int(entry.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _field(pid: int, file: str, name: str) -> int:
    """A field of /proc in bytes (the kernel writes KiB); 0 once the process is gone."""
    for line in _read(Path(f"/proc/{pid}/{file}")).splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

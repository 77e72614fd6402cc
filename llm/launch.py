"""One command as several processes, by a configuration of accelerate's."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from llm.config import read_yaml
from theory.errors import UserError, nearest

# Set in the processes that are started for us.
LAUNCHED = "PREFPROOF_LAUNCHED"
# Configurations that TRL does not ship.
OURS = Path(__file__).parent / "accelerate"


@dataclass(frozen=True)
class Launch:
    """A command line and what its environment needs beside this process's."""

    line: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def path_of(name: str) -> Path:
    """The configuration in a file, or the one of ours or of TRL's by that name; raises `UserError`."""
    path = Path(name)
    if path.is_file():
        return path
    import trl

    folders = (OURS, Path(trl.__file__).parent / "accelerate_configs")
    known = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
    if name not in known:
        raise UserError("--accelerate-config", name, nearest(name, known))
    return known[name]


def launch(name: str, words: list[str], processes: int | None = None) -> Launch:
    """How to start ``llm WORDS`` as a configuration says.

    Accelerate starts a single process for ``MULTI_CPU`` unless it goes through MPI, so torch's launcher, which
    it uses itself for GPUs, starts those.

    Args:
        name: a file, or a name.
        words: the command's arguments.
        processes: how many, in place of the configuration's own number.

    Raises:
        UserError: an unknown name, no number of processes, or processors of several machines.
    """
    path = path_of(name)
    found = read_yaml(path, "--accelerate-config")
    command = ["-m", "llm", *words]
    if found.get("distributed_type") != "MULTI_CPU":
        own = [] if processes is None else ["--num_processes", str(processes)]
        line = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path), *own, *command]
        return Launch(line, {LAUNCHED: "1"})
    if found.get("num_machines", 1) != 1:
        remedy = "has several machines, which is MPI's to start: accelerate launch --mpirun_hostfile FILE -m llm train …"
        raise UserError("--accelerate-config", name, remedy)
    count = processes or found.get("num_processes")
    if not isinstance(count, int) or count < 1:
        raise UserError("--accelerate-config", name, "names no num_processes: give --num-processes")
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), *command]
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    # A GPU of the machine is hidden, or its processes would share it.
    return Launch(line, {LAUNCHED: "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads})

"""A run killed with SIGKILL and resumed, against the same run uninterrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load_file

from benchmarks.processes import UNSET, run
from benchmarks.record import Measure, Record

# One loss on fixed data, and one with fresh samples, which needs the random state too.
METHODS = ("dpo", "pmle")
STEPS, QUICK_STEPS, SAVES = 60, 24, 3
# Between two looks at the folder of the run that is to be killed, from its first checkpoint to its end, and longest wait for it.
LOOK, GRACE, PATIENCE = 0.02, 0.3, 600.0


def benchmark(quick: bool) -> Record:
    steps = QUICK_STEPS if quick else STEPS
    methods = METHODS[:1] if quick else METHODS
    with TemporaryDirectory() as folder:  # both runs share the fitted reference, which is kept beside them
        found = {method: _compare(method, Path(folder), steps) for method in methods}
    return Record(
        "llm_resume",
        f"`llm train METHOD` on the known-target world, {steps} steps with a checkpoint every {steps // SAVES}: once to its end, "
        "and once killed (SIGKILL) after the first checkpoint and gone on with by `--resume auto` in a new process. The largest "
        "absolute difference of the loss over all steps of the two curves, and of the final weights; on a processor, float32.",
        tuple(
            Measure(f"{method}: largest difference of the loss", f["loss"], "nats", target=1e-6) for method, f in found.items()
        ),
        {"steps": steps, **found},
    )


def _compare(method: str, folder: Path, steps: int) -> dict[str, Any]:
    whole, cut = folder / f"{method}-whole", folder / f"{method}-cut"
    run(_command(method, whole, steps))
    kept = _killed(_command(method, cut, steps), cut)
    run([*_command(method, cut, steps), "--resume", "auto"])
    curves = [_losses(out, steps) for out in (whole, cut)]
    first, second = (load_file(out / "model.safetensors") for out in (whole, cut))
    return {
        "loss": max(abs(a - b) for a, b in zip(*curves, strict=True)),
        "weights": max(float((first[name] - second[name]).abs().max()) for name in first),
        "resumed_from_step": kept,
        "first_loss": curves[0][0],
        "last_loss": curves[0][-1],
    }


def _command(method: str, out: Path, steps: int) -> list[str]:
    options = {
        "output-dir": out,
        "max-steps": steps,
        "save-strategy": "steps",
        "save-steps": steps // SAVES,
        "logging-steps": 1,
    }
    return [sys.executable, "-m", "llm", "train", method, "--json", *(str(w) for k, v in options.items() for w in (f"--{k}", v))]


def _killed(command: list[str], out: Path) -> int:
    """Start a run and kill it shortly after its first checkpoint; the step of the newest one that it leaves."""
    log = out.with_suffix(".log")
    env = {name: value for name, value in os.environ.items() if name not in UNSET}
    with log.open("w") as stream:
        child = subprocess.Popen(command, env=env, stdout=stream, stderr=stream)
    began = time.monotonic()
    try:
        while not _newest(out):
            if child.poll() is not None or time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"{' '.join(command[1:])} made no checkpoint: {log.read_text()[-500:]}")
            time.sleep(LOOK)
        time.sleep(GRACE)
        if child.poll() is not None:
            raise RuntimeError(f"{' '.join(command[1:])} ended before it could be killed")
    finally:
        child.kill()  # SIGKILL
        child.wait()
    return _newest(out)


def _newest(out: Path) -> int:
    """The step of the newest complete checkpoint (its state is written last), 0 if there is none."""
    return max((int(path.parent.name.partition("-")[2]) for path in out.glob("checkpoint-*/trainer_state.json")), default=0)


def _losses(out: Path, steps: int) -> list[float]:
    """The loss of every step, nats, as the last checkpoint keeps it."""
    state = json.loads((out / f"checkpoint-{steps}" / "trainer_state.json").read_text())
    found = {entry["step"]: entry["loss"] for entry in state["log_history"] if "loss" in entry}
    return [found[step] for step in range(1, steps + 1)]

"""``llm train``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import number, print_json, print_table
from theory.errors import UserError

if TYPE_CHECKING:
    from llm.config import Config

RUNS = Path("runs")
WORLD_KEYS: tuple[str, ...] = ("tokens", "length", "prompts", "order", "ref_noise", "world_seed", "comparisons", "oracle")
DATA_KEYS: tuple[str, ...] = (
    *("data_split", "adapter", "eval_data", "scores", "eval_scores", "model_name_or_path", "chat_template"),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", context_settings=options.EXTRA)(train)


def train(
    context: typer.Context,
    method: Annotated[str | None, typer.Argument(help="An objective's name; see `theory methods`.")] = None,
    objective: options.ObjectiveFile = None,
    config: Annotated[Path | None, typer.Option("--config", help="A YAML file of keys; flags override it.")] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Where the model and its record go; runs/METHOD by default.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Train a model with an objective; without --data, on the known-target world, measured exactly.

    Every key of TRL's DPOConfig and ModelConfig is an option (--learning-rate, --per-device-train-batch-size,
    --model-name-or-path, --use-peft, …), and so are the objective's hyperparameters (--beta, --gamma-f, …), --data,
    --scores, --logp sum|mean, --kl samples|offline, --anneal, --chat-template plain, --accelerate-config zero2 (or multi_cpu,
    multi_gpu, …; with --num-processes), --resume auto, and the world's --tokens, --length, --prompts, --comparisons.
    """
    _quiet()
    named, flags = _parse([*([] if method is None else [method]), *context.args])
    given = {**_from_yaml(config), **flags}
    for key, value in (("method", named), ("objective", objective)):
        if value is not None:
            given = {name: v for name, v in given.items() if name not in ("method", "objective")} | {key: value}
    if named is not None and objective is not None:
        raise UserError("--objective", objective, f"cannot be combined with the method {named}: give one of them")
    from llm.config import resolve

    out = output_dir or given.pop("output_dir", None)
    resolved = resolve({key: value for key, value in given.items() if key != "output_dir"})
    _one_source(given)
    from llm.launch import LAUNCHED

    if resolved.run.accelerate_config is not None and LAUNCHED not in os.environ:
        raise typer.Exit(_launch(resolved.run.accelerate_config, resolved.run.num_processes))
    record = _run(resolved, Path(out or RUNS / resolved.objective.name), json=json)
    if not _first():
        return
    if json:
        print_json(record)
    else:
        _print(record)


def _quiet() -> None:
    """No progress lines of the libraries between ours, and no telemetry."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def _from_yaml(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    from llm.config import read_yaml

    return {key.replace("-", "_"): value for key, value in read_yaml(path).items()}


def _parse(words: list[str]) -> tuple[str | None, dict[str, Any]]:
    """The method and the flags as keys: ``--name value``, ``--name=value``, or ``--name`` for true; a repeated one is a list."""
    method: str | None = None
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            if name.startswith("-"):
                raise UserError(name, None, "is no option; options begin with --")
            if method is not None:
                raise UserError(name, None, f"is one word too many after {method}")
            method = name
            continue
        key = name[2:].replace("-", "_")
        given: Any = value if equals else rest.pop(0) if rest and not rest[0].startswith("--") else True
        found[key] = [*([found[key]] if not isinstance(found[key], list) else found[key]), given] if key in found else given
    return method, found


def _one_source(given: dict[str, Any]) -> None:
    """Refuse keys of the known-target world beside data, and keys of data without them: they would do nothing."""
    if given.get("data") is not None:
        unused, remedy = WORLD_KEYS, "is of the known-target world: leave out --data"
    else:
        unused, remedy = DATA_KEYS, "needs --data: the known-target world has its own"
    from llm.config import flag

    for key in unused:
        if given.get(key) is not None:
            raise UserError(flag(key), given[key], remedy)


def _run(config: Config, out: Path, *, json: bool) -> dict[str, Any]:
    """The run, its stages said on standard error."""
    import logging
    import warnings

    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="trl")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # TRL and PEFT use it

    def say(text: str) -> None:
        if _first() and (sys.stderr.isatty() or not json):
            typer.echo(f"… {text}", err=True)

    from llm.run import material_of
    from llm.run import train as train_on

    # The libraries print their progress on standard output, where a program reads ours.
    if config.run.data is not None:
        return _aside(lambda: train_on(config, material_of(config), out, say))
    import torch

    from llm.world.experiment import run_world

    torch.set_num_threads(1)  # on so small a model a second thread costs more to wake than it saves
    return _aside(lambda: run_world(config, out, say))


def _aside(work: Any) -> dict[str, Any]:
    """Run with standard output turned to standard error."""
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):
        record: dict[str, Any] = work()
    return record


def _launch(name: str, processes: int | None) -> int:
    """Start this command again as several processes; their exit code."""
    import subprocess

    from llm.launch import launch

    found = launch(name, sys.argv[1:], processes)
    return subprocess.run(found.line, check=False, env={**os.environ, **found.environment}).returncode


def _first() -> bool:
    """Whether this is the process that speaks, of those that accelerate started."""
    return os.environ.get("RANK", "0") == "0"


def _print(record: dict[str, Any]) -> None:
    rows = [
        ("objective", record["objective"]),
        ("hyperparameters", ", ".join(f"{k.rstrip('_')} = {v:g}" for k, v in record["hyperparameters"].items()) or "none"),
        ("log-probabilities", f"{record['logp']} over tokens"),
        *([("least reward of the ensemble", record["least_over"])] if record.get("least_over") else []),
        ("steps", str(record["steps"])),
        ("last loss", number(record["train"].get("loss"))),
        ("degeneracy alarm", "YES" if record["degenerate"] else "no"),
    ]
    if "forward_kl_after" in record:
        rows += [
            ("forward KL to the target, before", f"{number(record['forward_kl_before'])} nats"),
            ("forward KL to the target, after", f"{number(record['forward_kl_after'])} nats"),
            ("its floor on an exact table", f"{number(record['floor'])} nats"),
        ]
    rows += [("seconds", number(record["seconds"], 3)), ("saved in", record["output_dir"])]
    print_table(f"{record['method']} on {record['pairs']:,} pairs", ("", ""), rows)

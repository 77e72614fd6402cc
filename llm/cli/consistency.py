"""``llm consistency``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import floor_text, number, print_json, print_table
from theory.cli.groups import grouped
from theory.errors import UserError

if TYPE_CHECKING:
    from llm.consistency.picture import Line
    from llm.consistency.run import Done
    from llm.consistency.study import Study
    from theory.instances.language import Language

DEFAULT_METHODS = "pmle,dpo,drdo"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("consistency", context_settings=options.EXTRA)(grouped(consistency))


@dataclass(frozen=True)
class World:
    """The known-target world."""

    tokens: Annotated[int, typer.Option("--tokens", help="Tokens of the language, T.")] = 6
    length: Annotated[int, typer.Option("--length", help="Tokens in a response, L.")] = 3
    prompts: Annotated[int, typer.Option("--prompts", help="Prompts, X.")] = 4
    order: Annotated[int, typer.Option("--order", help="Order of the Markov chains, 1 or 2.")] = 1
    gamma: options.Gamma = 1.0
    ref_noise: options.RefNoise = 0.5
    world_seed: Annotated[int, typer.Option("--world-seed", help="Seed of the language.")] = 0

    def draw(self) -> Language:
        """The language; raises `UserError` for a size or scale out of range."""
        from theory.instances.language import random_language

        sizes = {name: value for name, value in vars(self).items() if name != "world_seed"}
        return random_language(options.nonnegative("--world-seed", self.world_seed), **sizes)


@dataclass(frozen=True)
class Training:
    """How every transformer is trained."""

    max_steps: Annotated[int | None, typer.Option("--max-steps", help="Steps; 300, or 600 with a reward head.")] = None
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="At the start of a cosine; 1e-3, or 2e-3 with a reward head.")
    ] = None
    per_device_train_batch_size: Annotated[
        int | None, typer.Option("--per-device-train-batch-size", help="Comparisons in a step; 8192.")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """What was given."""
        return {name: value for name, value in vars(self).items() if value is not None}


def consistency(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory of the results; a second start continues it.")],
    methods: Annotated[str, typer.Option("--methods", help="Objectives, separated by commas.")] = DEFAULT_METHODS,
    objective: options.ObjectiveFile = None,
    n: Annotated[str, typer.Option("--n", help="Sizes as LOW:HIGH:COUNT (log-spaced) or a list, such as 1e3,1e5.")] = "1e3:1e6:4",
    seeds: Annotated[int, typer.Option("--seeds", help="Data sets at each n.")] = 3,
    seed: options.Seed = 0,
    beta: Annotated[
        str,
        typer.Option(
            "--beta",
            help="Of all methods, or METHOD=… of one, by commas: auto (0 where allowed, else 1), best (least floor) or a number.",
        ),
    ] = "auto",
    oracle: options.Oracle = "learned",
    logp: Annotated[str, typer.Option("--logp", help="sum, or mean over tokens, of log-probabilities in the loss.")] = "sum",
    picture: Annotated[Path | None, typer.Option("--picture", help="Picture (.png, .pdf, .svg); OUT/consistency.png.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Worker processes; -1 for one a core.")] = -1,
    world: World,
    training: Training,
    json: options.Json = False,
) -> None:
    """Train transformers at many n and lay their exact forward KL over the table's; resumable.

    Every run starts from the transformer fitted to the reference policy and is trained by llm train's own trainer. The
    table is fitted to the same comparisons. Hyperparameters of the methods (--alpha, --tau, …) and further keys of TRL's
    DPOConfig are options too.
    """
    from theory.cli.sweep import parse_sizes
    from theory.plotting import check_format

    options.writable("--picture", picture)
    drawn = check_format(picture or out / "consistency.png", "--picture")
    if jobs == 0:
        raise UserError("--jobs", jobs, "must be a number of processes, or -1 for one a core")
    sizes = tuple(int(size) for size in parse_sizes(n))
    keys = {**training.given, **_keys(context.args)}
    from llm.consistency.methods import methods_of
    from llm.consistency.picture import lines
    from llm.consistency.picture import picture as draw
    from llm.consistency.run import check
    from llm.consistency.study import Study

    chosen, arguments = methods_of(_words(methods, objective), keys, beta, oracle=oracle, logp=logp)
    study = Study(world.draw(), chosen, sizes, seeds, seed, arguments)
    check(study)
    done = _run(study, out, jobs, json=json)
    draw(done.rows, drawn)
    record = _record(study, done, out, drawn)
    if json:
        print_json(record)
    else:
        _print(lines(done.rows), record)


def _words(methods: str, objective: str | None) -> list[dict[str, str]]:
    """What names each method in a run's configuration."""
    found = [{"method": name.strip()} for name in methods.split(",") if name.strip()]
    return found + ([{"objective": objective}] if objective is not None else [])


def _keys(words: list[str]) -> dict[str, str]:
    """Options that typer does not know: ``--name value`` or ``--name=value``."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise UserError(name, None, "is no option; options begin with --")
        if not equals and not rest:
            raise UserError(name, None, "needs a value")
        found[name[2:].replace("-", "_")] = value if equals else rest.pop(0)
    return found


def _run(study: Study, out: Path, jobs: int, *, json: bool) -> Done:
    """The study, its stages and its bar on standard error."""
    from llm.consistency.run import run_study

    def say(text: str) -> None:
        if sys.stderr.isatty() or not json:
            typer.echo(f"… {text}", err=True)

    with _Bar() as bar:
        done = run_study(study, out, jobs=jobs, say=say, expect=bar.expect, report=bar.advance)
    if done.broken:
        typer.echo(f"{done.broken} results files were half-written and were computed again", err=True)
    if done.before:
        typer.echo(f"{done.before} of {done.total} runs were there already", err=True)
    return done


class _Bar:
    """A progress bar on the terminal; silent elsewhere."""

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

        columns = ("training", BarColumn(), MofNCompleteColumn(), "runs", TimeElapsedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.progress.__enter__()
        self.task = self.progress.add_task("training", total=None)
        return self

    def expect(self, missing: int) -> None:
        self.progress.update(self.task, total=missing)

    def advance(self, runs: int) -> None:
        self.progress.advance(self.task, runs)

    def __exit__(self, *error: Any) -> None:
        self.progress.__exit__(*error)


def _record(study: Study, done: Done, out: Path, drawn: Path) -> dict[str, Any]:
    from llm.consistency.picture import lines
    from llm.consistency.run import RESULTS

    distils = any(method.objective.reads("reward") for method in study.methods)
    return {
        "out": str(out),
        "results": str(out / RESULTS),
        "picture": str(drawn),
        "world": study.language.name,
        "reward": study.methods[0].oracle if distils else None,
        "logp": study.methods[0].logp,
        "forward_kl_before": done.rows[0]["forward_kl_before"],
        "runs": done.total,
        "methods": [vars(line) for line in lines(done.rows)],
    }


def _print(drawn: list[Line], record: dict[str, Any]) -> None:
    columns = ("method", "n", "transformer", "table", "floor", "off", "gradient")
    rows = [
        (
            line.label if i == 0 else "",
            f"{line.n[i]:.0f}",
            f"{number(line.mean[i])} ({number(line.low[i], 3)}–{number(line.high[i], 3)})",
            number(line.table[i]),
            floor_text(line.floor),
            number(line.off[i], 2),
            number(line.gradient[i], 2),
        )
        for line in drawn
        for i in range(len(line.n))
    ]
    print_table("forward KL to the target, nats", columns, rows)
    source = {"learned": "the Bradley–Terry table of the same comparisons", "true": "the true reward"}
    if record["reward"] is not None:
        typer.echo(f"distilled reward: {source[record['reward']]}")
    typer.echo(
        f"the reference, where training starts: {number(record['forward_kl_before'])} nats\n"
        "transformer: mean (least–greatest) over data sets; table: the mean of the exact table's on the same data\n"
        "off: the transformer's probability of what is no response; gradient: of the loss over all comparisons at\n"
        "the end of training, its largest norm: where it is large, more --max-steps would still change the numbers\n"
        f"results in {record['results']}, picture in {record['picture']}"
    )

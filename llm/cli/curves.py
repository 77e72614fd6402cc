"""``llm curves``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llm.cli.study import Beta, Logp, Methods, Training, World, keys, run, words
from theory.cli import options
from theory.cli.console import number, print_json, print_table
from theory.cli.groups import grouped

DEFAULT_METHODS = "sft,dpo,e-dpo,drdo,pmle"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("curves", context_settings=options.EXTRA)(grouped(curves))


def curves(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory of the results; a second start continues it.")],
    methods: Methods = DEFAULT_METHODS,
    objective: options.ObjectiveFile = None,
    n: Annotated[str, typer.Option("--n", help="Comparisons in a data set.")] = "3e4",
    seeds: Annotated[int, typer.Option("--seeds", help="Data sets.")] = 3,
    seed: options.Seed = 0,
    points: Annotated[int, typer.Option("--points", help="Steps to measure beside the first, evenly in their logarithm.")] = 40,
    beta: Beta = "auto",
    oracle: options.Oracle = "learned",
    logp: Logp = "sum",
    jobs: options.Jobs = -1,
    world: World,
    training: Training,
    json: options.Json = False,
) -> None:
    """Train transformers on the known-target world and measure them exactly on the way; resumable.

    Every run, supervised training on the winners too, starts from the transformer fitted to the reference policy and is
    trained by llm train's own trainer. Distances, true rewards, win rates, and what is said of fresh comparisons are sums
    over all responses. Hyperparameters of the methods (--alpha, --tau, …) and further keys of TRL's DPOConfig are options
    too.
    """
    from theory.cli.sweep import parse_sizes

    options.check_jobs(jobs)
    sizes = tuple(int(size) for size in parse_sizes(n))
    given = {**training.given, **keys(context.args)}
    from llm.consistency.methods import methods_of
    from llm.consistency.study import Study
    from llm.curves.run import check, job
    from llm.curves.summary import ends

    chosen, arguments = methods_of(words(methods, objective), given, beta, oracle=oracle, logp=logp)
    study = Study(world.draw(), chosen, sizes, seeds, seed, arguments)
    check(study, points)
    made = job(points)
    done = run(study, out, jobs, json=json, job=made)
    record = {
        "out": str(out),
        "results": str(out / made.results),
        "world": study.language.name,
        "n": sizes[0],
        "runs": done.total,
        "ends": ends(done.rows),
    }
    if json:
        print_json(record)
    else:
        _print(record)


def _print(record: dict[str, Any]) -> None:
    columns = ("policy", "steps", "forward KL", "advantage", "win rate", "accuracy", "chosen", "rejected")
    rows = [
        (
            end["policy"],
            str(end["step"]),
            number(end["forward_kl"]),
            number(end["oracle_advantage"]),
            f"{end['win_rate']:.1%}",
            f"{end['accuracy']:.1%}",
            number(end["chosen_logp"]),
            number(end["rejected_logp"]),
        )
        for end in record["ends"]
    ]
    print_table(f"the end of training on {record['n']:,} comparisons, means over data sets", columns, rows)
    typer.echo(
        "target, reference, winners (of fresh comparisons): policies that no training gives\n"
        "advantage: of the expected true reward over the reference's, nats; win rate: against the reference, under the\n"
        "preference model; accuracy, chosen and rejected log-probability (nats): of fresh comparisons, in expectation\n"
        f"results in {record['results']}"
    )

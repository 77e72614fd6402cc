"""``llm consistency``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm.cli.study import Beta, Logp, Methods, Training, World, keys, run, words
from theory.cli import options
from theory.cli.console import floor_text, number, print_json, print_table
from theory.cli.groups import grouped

if TYPE_CHECKING:
    from llm.consistency.picture import Line
    from llm.consistency.run import Done
    from llm.consistency.study import Study

DEFAULT_METHODS = "pmle,dpo,drdo"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("consistency", context_settings=options.EXTRA)(grouped(consistency))


def consistency(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory of the results; a second start continues it.")],
    methods: Methods = DEFAULT_METHODS,
    objective: options.ObjectiveFile = None,
    n: Annotated[str, typer.Option("--n", help="Sizes as LOW:HIGH:COUNT (log-spaced) or a list, such as 1e3,1e5.")] = "1e3:1e6:4",
    seeds: Annotated[int, typer.Option("--seeds", help="Data sets at each n.")] = 3,
    seed: options.Seed = 0,
    beta: Beta = "auto",
    oracle: options.Oracle = "learned",
    logp: Logp = "sum",
    picture: Annotated[Path | None, typer.Option("--picture", help="Picture (.png, .pdf, .svg); OUT/consistency.png.")] = None,
    jobs: options.Jobs = -1,
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
    options.check_jobs(jobs)
    sizes = tuple(int(size) for size in parse_sizes(n))
    given = {**training.given, **keys(context.args)}
    from llm.consistency.methods import methods_of
    from llm.consistency.picture import lines
    from llm.consistency.picture import picture as draw
    from llm.consistency.run import check
    from llm.consistency.study import Study

    chosen, arguments = methods_of(words(methods, objective), given, beta, oracle=oracle, logp=logp)
    study = Study(world.draw(), chosen, sizes, seeds, seed, arguments)
    check(study)
    done = run(study, out, jobs, json=json)
    draw(done.rows, drawn)
    record = _record(study, done, out, drawn)
    if json:
        print_json(record)
    else:
        _print(lines(done.rows), record)


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

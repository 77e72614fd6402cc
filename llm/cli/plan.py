"""``llm plan``: what a recipe needs, before anything is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli import options
from theory.cli.console import number, print_json, print_table

if TYPE_CHECKING:
    from llm.plan import Plan

GIB = 2**30
# Columns of the table: what each field of `Memory` is called there.
PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "reference": "reference",
    "activations": "activations",
    "workspace": "workspace",
    "reserve": "reserve",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see llm recipes list) or a YAML file.")],
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of one run.")] = 1,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", help="Memory of a GPU in GiB; that of --gpu without.")
    ] = None,
    gpu: Annotated[str, typer.Option("--gpu", help="The GPU, for its peak: a100, a100-40gb, h100, h200, l40, …")] = "a100",
    utilisation: Annotated[float, typer.Option("--utilisation", help="Share of the peak that the model's FLOPs reach.")] = 0.4,
    length: Annotated[
        int | None, typer.Option("--length", help="Mean tokens of prompt and response; max_length without, an upper bound.")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", help="Rows of the data, where they are not known.")] = None,
    json: options.Json = False,
) -> None:
    """Parameters, memory by ZeRO stage, tokens, FLOPs and hours of a recipe, from its configuration alone."""
    from llm import config, recipes
    from llm.plan import Machine, compute
    from llm.plan import plan as make_plan

    found = compute.gpu_called(gpu)
    machine = Machine(found, gpus, (found.memory if gpu_memory is None else gpu_memory) * GIB, utilisation)
    loaded = recipes.load(recipe)
    run = config.resolve(loaded.values)
    model = recipes.base_model(run.model)
    made = make_plan(run, machine, model=model, length=length, rows=rows)
    record = {"recipe": loaded.name, "model": model, "method": run.objective.name, "gpu": gpu} | describe(made)
    if json:
        print_json(record)
    else:
        _print(record)


def describe(plan: Plan) -> dict[str, Any]:
    """A plan as a record: bytes in GiB, FLOPs and hours as numbers."""
    work, machine = plan.work, plan.machine
    flops = ("forward", "backward", "attention", "reference", "sampling", "recompute")
    return {
        "parameters": plan.parameters,
        "trained_parameters": plan.trained,
        "reward_head_parameters": plan.reward_head,
        "gpus": machine.gpus,
        "gpu_memory_gib": machine.memory / GIB,
        "utilisation": machine.utilisation,
        "effective_batch": work.batch,
        "steps": work.steps,
        "sequence_tokens": plan.length,
        "tokens": work.tokens,
        "flops": {name: getattr(work, name) for name in flops},
        "model_flops": work.model_flops,
        "hardware_flops": work.hardware_flops,
        "hours": plan.hours,
        "gpu_hours": plan.hours * machine.gpus,
        "zero_stage": plan.stage,
        "fits": plan.fits,
        "memory_gib": [
            {"zero_stage": stage}
            | {name: getattr(memory, name) / GIB for name in PARTS}
            | {"total": memory.total / GIB, "fits": plan.fits_at(stage), "largest_batch_per_gpu": plan.largest[stage]}
            for stage, memory in plan.memories.items()
        ],
        "reference": plan.reference,
        "reference_in_memory_gib": plan.reference_bytes / GIB,
        "fused_head_saves_gib": plan.head_saving / GIB,
        "checkpointing_saves_gib": plan.checkpoint_saving / GIB,
    }


def _print(record: dict[str, Any]) -> None:
    machine = f"{record['gpus']} × {record['gpu']} with {record['gpu_memory_gib']:g} GiB"
    columns = ("ZeRO", *PARTS.values(), "total", "fits", "batch ≤")
    rows = [_row(memory, record["zero_stage"]) for memory in record["memory_gib"]]
    print_table(f"{record['recipe']} on {machine}: GiB per GPU (* as configured)", columns, rows)
    print_table(None, ("", ""), _facts(record))


def _row(memory: dict[str, Any], own: int) -> list[str]:
    stage = f"{memory['zero_stage']}{' *' if memory['zero_stage'] == own else ''}"
    sizes = [f"{memory[name]:.1f}" for name in (*PARTS, "total")]
    return [stage, *sizes, "yes" if memory["fits"] else "no", str(memory["largest_batch_per_gpu"])]


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    head = f", {record['reward_head_parameters']:,} of them the reward head" if record["reward_head_parameters"] else ""
    flops = f"{record['model_flops']:.3g}, and {record['flops']['recompute']:.3g} repeated by checkpointing"
    peak = f"{record['utilisation']:.0%} of the peak ({number(record['gpu_hours'], 3)} GPU hours)"
    return [
        ("model", f"{record['model']}, {record['parameters']:,} parameters"),
        ("trained", f"{record['trained_parameters']:,} parameters{head}"),
        ("effective batch", f"{record['effective_batch']} over {record['gpus']} GPUs"),
        ("steps", f"{record['steps']:,}"),
        ("tokens", f"{record['tokens']:.3g}, at {record['sequence_tokens']:,} a sequence"),
        ("FLOPs", flops),
        ("hours", f"{number(record['hours'], 3)} at {peak}"),
        ("reference", _reference(record)),
        ("fused LM head", f"saves {record['fused_head_saves_gib']:.1f} GiB"),
        ("gradient checkpointing", f"saves {record['checkpointing_saves_gib']:.1f} GiB"),
    ]


def _reference(record: dict[str, Any]) -> str:
    if record["reference"] == "none":
        return "none is needed"
    size = f"{record['reference_in_memory_gib']:.1f} GiB"
    words = {
        "in memory": f"in memory, to score fresh samples: {size}",
        "adapters off": f"the policy with its adapters off, to score fresh samples; a second model would take {size}",
        "precomputed": f"precomputed; held in memory it would take {size}",
    }
    return words[record["reference"]]

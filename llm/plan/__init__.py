"""What a run needs, from its configuration alone: memory, tokens, FLOPs and hours, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm.plan import compute
from llm.plan.compute import Gpu, Passes, Work
from llm.plan.memory import GIB, STAGES, Load, Memory, activations, fused_head, memory, precision, reference, whole_head
from llm.plan.shapes import Shape, shape_of
from theory.errors import UserError, nearest

if TYPE_CHECKING:
    from llm.config import Config

# TRL's defaults of what a plan reads (a test compares them with TRL's own).
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": True,
    "max_length": 1024,
    "max_steps": -1,
    "num_train_epochs": 3.0,
    "bf16": True,
    "optim": "adamw_torch_fused",
    "dtype": "float32",
    "use_peft": False,
    "lora_r": 16,
    "lora_target_modules": None,
}
# ZeRO stages of TRL's accelerate configurations and ours; FSDP's full sharding stores what stage 3 does.
ACCELERATE = {"multi_cpu": 0, "single_gpu": 0, "multi_gpu": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp1": 3, "fsdp2": 3}
# No search for a larger batch goes beyond this one.
LARGEST_BATCH = 4096


@dataclass(frozen=True)
class Machine:
    """The GPUs a run is planned for.

    Attributes:
        memory: bytes of one GPU.
        utilisation: share of the peak that the model's FLOPs reach.
    """

    gpu: Gpu
    gpus: int
    memory: float
    utilisation: float


@dataclass(frozen=True)
class Plan:
    """A run's needs.

    Attributes:
        parameters: of the policy, without its reward head.
        trained: trainable ones, the reward head among them.
        reward_head: parameters of the reward head, 0 without one.
        length: tokens assumed of every sequence.
        stage: the configuration's own ZeRO stage.
        memories: bytes per GPU, by stage.
        largest: the largest batch per GPU that fits, by stage; 0 where none does.
        reference: where the reference's log-probabilities come from, in words.
        reference_bytes: what holding the reference in memory takes, or would.
        head_saving: bytes that the fused LM head saves.
        checkpoint_saving: bytes that gradient checkpointing saves, or would.
    """

    shape: Shape
    machine: Machine
    parameters: int
    trained: int
    reward_head: int
    length: int
    stage: int
    memories: dict[int, Memory]
    largest: dict[int, int]
    work: Work
    reference: str
    reference_bytes: float
    head_saving: float
    checkpoint_saving: float

    @property
    def fits(self) -> bool:
        """Whether it fits as configured."""
        return self.fits_at(self.stage)

    def fits_at(self, stage: int) -> bool:
        """Whether it fits at a ZeRO stage."""
        return self.memories[stage].total <= self.machine.memory

    @property
    def hours(self) -> float:
        """Hours of training, reference passes included."""
        return self.work.hours(self.machine.gpu, self.machine.gpus, self.machine.utilisation)


@dataclass(frozen=True)
class _Needs:
    """What an objective asks of a run, read off its function."""

    sequences: int
    samples: int
    reference: str
    reward_head: bool


def plan(run: Config, machine: Machine, *, model: str, length: int | None = None, rows: int | None = None) -> Plan:
    """Plan a run.

    Args:
        run: the configuration.
        machine: what it is to run on.
        model: whose shape it has: a known hub id or a local folder.
        length: mean tokens of a sequence, prompt and response; ``max_length`` without, an upper bound.
        rows: rows of the data, where they are not known and the run is counted in epochs.

    Raises:
        UserError: an unknown model, target module or accelerate configuration, or a size out of range.
    """
    values = settings(run)
    _check_sizes(values, machine, length=length, rows=rows)
    shape = shape_of(model)
    needs = _needs(run)
    head = shape.embedding if needs.reward_head else 0
    adapters = shape.adapters(values["lora_r"], values["lora_target_modules"]) if run.adapted else 0
    tokens = length or int(values["max_length"])
    stage = stage_of(run.run.accelerate_config)

    def load(batch: int) -> Load:
        return Load(
            shape=shape,
            trained=(adapters or shape.parameters) + head,
            whole=not adapters,
            reference=shape.parameters if needs.reference == "in memory" else 0,
            sequences=batch * (needs.sequences + needs.samples),
            length=int(values["max_length"]),
            gpus=machine.gpus,
        )

    own, size = load(values["per_device_train_batch_size"]), precision(values, stage)
    steps = compute.steps_of(values, machine.gpus, rows)
    # Where the rows are not known, every example is taken for a new one.
    epochs = steps * compute.batch_of(values, machine.gpus) / (rows or compute.rows_of(str(values["data"])) or float("inf"))
    scored = needs.sequences if needs.reference == "precomputed" else 0
    kept = {way: activations(own, {**values, "gradient_checkpointing": way}, size.activation) for way in (True, False)}
    return Plan(
        shape=shape,
        machine=machine,
        parameters=shape.parameters,
        trained=own.trained,
        reward_head=head,
        length=tokens,
        stage=stage,
        memories={s: memory(own, values, s) for s in STAGES},
        largest={s: _largest(lambda batch, s=s: memory(load(batch), values, s).total <= machine.memory) for s in STAGES},
        work=compute.work(
            shape,
            values,
            Passes(needs.sequences, needs.samples, scored, epochs),
            length=tokens,
            gpus=machine.gpus,
            trained=adapters,
            steps=steps,
        ),
        reference=needs.reference,
        reference_bytes=reference(shape.parameters, machine.gpus, values, stage),
        head_saving=whole_head(shape, own.tokens, size.activation)
        - fused_head(shape, own.tokens, size.activation, trained=own.whole),
        checkpoint_saving=kept[False] - kept[True],
    )


def stage_of(name: str | None) -> int:
    """The ZeRO stage of an accelerate configuration, by TRL's name or in a file; raises `UserError`."""
    if name is None:
        return 0
    if name in ACCELERATE:
        return ACCELERATE[name]
    path = Path(name)
    if not path.is_file():
        raise UserError("accelerate_config", name, nearest(name, ACCELERATE) + " (or a file)")
    from llm.config import read_yaml

    found = read_yaml(path, "accelerate_config")
    deepspeed = found.get("deepspeed_config") or {}
    stage = (
        3 if found.get("distributed_type") == "FSDP" else deepspeed.get("zero_stage", 0) if isinstance(deepspeed, dict) else None
    )
    if stage not in STAGES:
        raise UserError("accelerate_config", name, f"its zero_stage {stage} is none of 0, 1, 2, 3")
    return int(stage)


def settings(run: Config) -> dict[str, Any]:
    """What a plan reads of a configuration, defaults filled in."""
    given = {key: value for key, value in {**run.training, **run.model}.items() if value is not None}
    # transformers 5 has a new name for it, which wins where both are given.
    checkpointing = given.get("activation_checkpointing", given.get("gradient_checkpointing", True))
    bits = {f"load_in_{run.run.quantization}": True} if run.run.quantization else {}
    return {**DEFAULTS, **given, **bits, "gradient_checkpointing": checkpointing, "data": run.run.data}


def _needs(run: Config) -> _Needs:
    """Read off the objective which sequences, samples and reference a run needs."""
    objective = run.objective
    terms = objective.coefficients(gamma=run.run.gamma, **run.hyper)
    fresh = float(terms.kl) != 0 and run.run.kl == "samples"
    offline = float(terms.kl) != 0 and not fresh
    scored = objective.reads("ref_logp") or offline or float(terms.forward_kl) != 0
    # The policy without its adapters is the reference.
    held = "adapters off" if run.adapted else "in memory"
    reference = held if fresh else "precomputed" if scored else "none"
    return _Needs(2 if objective.reads_rejected else 1, int(fresh), reference, objective.reads("student_reward"))


def _largest(fits: Any) -> int:
    """The largest batch that fits, by bisection: memory grows with the batch."""
    low, high = 0, LARGEST_BATCH + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _check_sizes(values: Mapping[str, Any], machine: Machine, **given: int | None) -> None:
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "lora_r"):
        if not (isinstance(values[name], int) and values[name] > 0):
            raise UserError(name, values[name], "must be a whole number above 0")
    for option, number in {"--gpus": machine.gpus, **{f"--{name}": number for name, number in given.items()}}.items():
        if number is not None and number < 1:
            raise UserError(option, number, "must be at least 1")
    if not 0 < machine.utilisation <= 1:
        raise UserError("--utilisation", machine.utilisation, "must lie in (0, 1]")
    if not 0 < machine.memory < float("inf"):
        raise UserError("--gpu-memory", f"{machine.memory / GIB:g}", "must be above 0")

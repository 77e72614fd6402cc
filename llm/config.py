"""What a training run is made of: one flat set of keys, from YAML and from flags."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theory.errors import UserError, nearest

if TYPE_CHECKING:
    from theory.objectives import Objective

KL_WORDS = ("samples", "offline")
# TRL's arguments that would do nothing here: an objective owns them, or our data and scores leave nothing to set.
# ``hub_token`` is a secret, and a run writes down all that it was given: log in instead.
UNUSED = {
    *("beta", "loss_type", "loss_weights", "label_smoothing", "label_smoothing_factor", "ld_alpha", "use_weighting"),
    *("f_divergence_type", "f_alpha_divergence_coef", "discopop_tau", "router_aux_loss_coef", "model_init_kwargs"),
    *("precompute_ref_log_probs", "precompute_ref_batch_size", "sync_ref_model", "ref_model_mixup_alpha"),
    *("ref_model_sync_steps", "dataset_num_proc", "padding_free", "pad_token", "truncation_mode", "hub_token"),
    *("config", "resume_from_checkpoint", "do_train", "do_eval", "do_predict"),
}
# What `llm.models.load` reads of TRL's ``ModelConfig``; 4 and 8 bits are ``quantization``.
MODEL_KEYS = (
    *("model_name_or_path", "dtype", "attn_implementation"),
    *("use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
)


@dataclass
class RunArguments:
    """What TRL's own arguments do not say.

    Attributes:
        method: an objective's name.
        objective: path/to/file.py:name, in place of a method.
        data: hub id or local path of preferences; without it the run is on the known-target world.
        data_split, adapter: which split of it, and how to read it if columns do not tell.
        eval_data: preferences held out, as ``data``.
        scores, eval_scores: files of ``llm score`` with reference log-probabilities or rewards, of data and of eval_data.
        logp: ``sum`` of the tokens' log-probabilities, as on the table, or their ``mean``.
        kl: how KL(π‖π_ref) is estimated: on fresh ``samples`` of the policy, or ``offline`` on the data.
        kl_new_tokens: longest fresh sample.
        anneal: move the hyperparameters that have a schedule along it.
        gamma: γ of the preference model.
        chat_template: of conversations, in place of the tokenizer's own: a jinja file, or ``plain``.
        accelerate_config: a file, ``multi_cpu``, or a name that TRL ships (zero2, zero3, fsdp1, …).
        num_processes: how many that configuration starts, in place of its own number.
        quantization: ``4bit`` (QLoRA) or ``8bit``.
        resume: ``auto`` for the newest checkpoint in the output directory, or a checkpoint's path.
        tokens, length, prompts, order, ref_noise, world_seed: of the known-target world.
        comparisons: how many it is asked.
        oracle: there, ``learned`` (trained first, on the same comparisons) or ``true`` reward.
    """

    method: str | None = None
    objective: str | None = None
    data: str | None = None
    data_split: str | None = None
    adapter: str | None = None
    eval_data: str | None = None
    scores: list[str] = field(default_factory=list)
    eval_scores: list[str] = field(default_factory=list)
    logp: str = "sum"
    kl: str = "samples"
    kl_new_tokens: int = 64
    anneal: bool = False
    gamma: float = 1.0
    chat_template: str | None = None
    accelerate_config: str | None = None
    num_processes: int | None = None
    quantization: str | None = None
    resume: str | None = None
    tokens: int = 6
    length: int = 3
    prompts: int = 4
    order: int = 1
    ref_noise: float = 0.5
    world_seed: int = 0
    comparisons: int = 30_000
    oracle: str = "learned"


@dataclass(frozen=True)
class Config:
    """A run, resolved.

    Attributes:
        run: our own keys.
        hyper: the objective's hyperparameters that were given.
        training: keys of TRL's ``DPOConfig`` that were given.
        model: keys of TRL's ``ModelConfig`` that were given.
    """

    objective: Objective
    run: RunArguments
    hyper: dict[str, float]
    training: dict[str, Any]
    model: dict[str, Any]

    @property
    def adapted(self) -> bool:
        """Whether adapters are trained; QLoRA does so by nature."""
        return bool(self.model.get("use_peft") or self.run.quantization)

    def flat(self) -> dict[str, Any]:
        """All that was given, and our own defaults, as one mapping for a file beside the weights."""
        return {**dataclasses.asdict(self.run), **self.hyper, **self.training, **self.model}


def read_yaml(path: Path, argument: str = "--config") -> dict[str, Any]:
    """The keys of a flat YAML file; raises `UserError`."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(argument, path, "there is no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(argument, path, "is no YAML file: " + str(error).split("\n")[0]) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UserError(argument, path, "must be a flat mapping of keys to values")
    return found


@cache
def training_keys() -> dict[str, Any]:
    """Fields of TRL's ``DPOConfig`` and their types, `UNUSED` ones left out."""
    from trl import DPOConfig

    return {name: hint for name, hint in _fields(DPOConfig).items() if name not in UNUSED}


@cache
def model_keys() -> dict[str, Any]:
    """Those fields of TRL's ``ModelConfig`` that are read, and their types."""
    from trl import ModelConfig

    known = _fields(ModelConfig)
    return {name: known[name] for name in MODEL_KEYS}


@cache
def run_keys() -> dict[str, Any]:
    """Our own fields and their types."""
    return _fields(RunArguments)


def _fields(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def objective_of(given: Mapping[str, Any]) -> Objective:
    """The objective that ``method`` or ``objective`` names."""
    from theory import objectives

    method, file = given.get("method"), given.get("objective")
    if (method is None) == (file is None):
        raise UserError("METHOD", method, "name an objective (see `theory methods`), or give --objective file.py:name")
    if file is not None:
        return objectives.load(file)
    try:
        return objectives.get(str(method))
    except UserError as error:
        raise UserError("METHOD", error.value, error.remedy) from error


def resolve(given: Mapping[str, Any]) -> Config:
    """A run of the keys that were given; raises `UserError` for an unknown key, with the nearest known one, or a bad value."""
    objective = objective_of(given)
    own = {p.name.rstrip("_"): p.name for p in objective.hyperparameters}
    parts: dict[str, dict[str, Any]] = {"run": {}, "hyper": {}, "training": {}, "model": {}}
    for raw, value in given.items():
        key = raw.replace("-", "_")
        if key in own and key in run_keys():  # HyPO's weight of the KL has the name of how it is estimated
            value = _weight(raw, value, own[key], parts["hyper"])
            if value is None:
                continue
        elif key in own:
            parts["hyper"][own[key]] = _number(raw, value)
            continue
        for part, known in (("run", run_keys()), ("training", training_keys()), ("model", model_keys())):
            if key in known:
                parts[part][key] = coerce(raw, value, known[key])
                break
        else:
            every = {*own, *run_keys(), *training_keys(), *model_keys()}
            raise UserError(flag(raw), None, "is no key of a run; " + nearest(key, every))
    objective.resolve(parts["hyper"])
    run = RunArguments(**parts["run"])
    _check(run)
    return Config(objective, run, parts["hyper"], parts["training"], parts["model"])


def _weight(raw: str, value: Any, name: str, hyper: dict[str, float]) -> Any:
    """Take the numbers of a key that means two things for the hyperparameter; the word that is left, or None."""
    given = value if isinstance(value, list) else [value]
    words = [v for v in given if isinstance(v, str) and v.isalpha()]
    for number in [v for v in given if v not in words]:
        hyper[name] = _number(raw, number)
    return words[-1] if words else None


def _check(run: RunArguments) -> None:
    for name, words in (("logp", ("sum", "mean")), ("kl", KL_WORDS), ("oracle", ("learned", "true"))):
        value = getattr(run, name)
        if value not in words:
            raise UserError(flag(name), value, nearest(str(value), words) + f" (choices: {', '.join(words)})")
    if run.gamma <= 0:
        raise UserError("--gamma", run.gamma, "must be positive")
    for name in ("kl_new_tokens", "comparisons", "num_processes"):
        value = getattr(run, name)
        if value is not None and value < 1:
            raise UserError(flag(name), value, "must be at least 1")
    if run.num_processes is not None and run.accelerate_config is None:
        raise UserError("--num-processes", run.num_processes, "needs --accelerate-config: multi_cpu, multi_gpu, zero2, …")


def flag(key: str) -> str:
    """A key as an option."""
    return "--" + key.replace("_", "-")


def _number(key: str, value: Any) -> float:
    try:
        if isinstance(value, bool):  # a flag without its value
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise UserError(flag(key), value, "must be a number") from None


def coerce(key: str, value: Any, hint: Any) -> Any:
    """A value from YAML or a flag as its field's type; raises `UserError`."""
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if kind is not type(None)]
    if isinstance(value, str) and str not in kinds:
        value = _parsed(key, value)
    if value is None and type(None) in typing.get_args(hint):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(flag(key), value, "must be finite")
    if bool in kinds and isinstance(value, bool):
        return value
    if int in kinds and isinstance(value, float) and value == int(value) and float not in kinds:
        value = int(value)
    if float in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return value if int in kinds else float(value)
    if int in kinds and isinstance(value, int) and not isinstance(value, bool):
        return value
    if any(typing.get_origin(kind) is list or kind is list for kind in kinds) or typing.get_origin(hint) is list:
        return value if isinstance(value, list) else [value]
    if not {int, float, bool} & set(kinds) or (str in kinds and isinstance(value, str)):
        return value
    wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise UserError(flag(key), value, f"must be of type {wanted}")


def _parsed(key: str, text: str) -> Any:
    """What a flag's text means: a number in any notation, true or false, JSON, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for reader in (int, float, json.loads):
        try:
            return reader(text)
        except ValueError:
            continue
    return text

"""One training run from its configuration to its record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from trl import DPOConfig

from llm import folder
from llm.config import Config
from llm.material import Material, Preparation, Say, material_of, treatment_of, trusted
from llm.models.load import load_policy, load_tokenizer, peft_config
from llm.trainers.monitors import Remember
from llm.trainers.online import FreshKL
from llm.trainers.preference import PreferenceTrainer
from llm.trainers.progress import Progress
from theory.errors import UserError
from theory.files import writing
from theory.objectives import Objective

__all__ = ["Material", "Say", "material_of", "policy", "train", "treatment_of"]

VERSIONS = ("prefproof", "torch", "transformers", "trl", "datasets", "accelerate", "peft")
# Where TRL's own defaults would fail or mislead; keys that are given win.
DEFAULTS = {"logging_steps": 10, "report_to": "none", "save_total_limit": 2, "disable_tqdm": True}


def train(config: Config, material: Material, out: Path, say: Say = lambda text: None) -> dict[str, Any]:
    """Train and save a model; its record.

    Under ``accelerate launch`` every process calls it, and the first one writes.

    Args:
        out: the output directory: weights, tokenizer, ``run.json`` and scores.
        say: told what is being done.

    Raises:
        UserError: the configuration, the data, the scores or the directory is unfit.
    """
    started = time.monotonic()
    arguments = _arguments(config, material, out)
    start = folder.checkpoint(config.run.resume, out, say)
    if config.run.resume is not None:
        folder.same_run(out, _record(config, material))
    PartialState().wait_for_everyone()  # nobody writes into the directory before all have looked
    with writing("--output-dir", out):
        trainer = _trainer(config, material, arguments, out, say)
        record = {**_record(config, material), "pairs": len(trainer.train_dataset), "least_over": trainer.least_over}  # type: ignore[arg-type]
        first = trainer.accelerator.is_main_process
        if first:
            out.mkdir(parents=True, exist_ok=True)
            folder.write(out, record)
        if start is not None:
            trainer.monitor.load(Path(start))
        if record["least_over"]:
            say(f"the least reward of the ensemble is chosen over {record['least_over']}")
        say("training")
        trainer.train(resume_from_checkpoint=start)
        if trainer.eval_dataset is not None:
            trainer.evaluate()
        trainer.save_model()
        record |= _result(trainer, time.monotonic() - started)
        if first:
            folder.write(out, record)
        trainer.accelerator.wait_for_everyone()  # the model is there for whoever reads it next
    return record


def _trainer(config: Config, material: Material, arguments: DPOConfig, out: Path, say: Say) -> PreferenceTrainer:
    """The trainer with its model, tokens and scores."""
    run, treatment = config.run, treatment_of(config)
    tokenizer = load_tokenizer(material.model, chat_template=run.chat_template, trust_remote_code=trusted(config))
    preparation = Preparation(config, material.model, tokenizer, arguments.max_length, out, say)
    dataset, held_out = preparation.ready(material.dataset, "train", run.scores), material.evaluation
    if held_out is not None:
        held_out = preparation.ready(held_out, "eval", run.eval_scores)
    online = _fresh_kl(config, material.model, tokenizer)
    with refused():
        trainer = PreferenceTrainer(
            treatment=dataclasses.replace(treatment, online_kl=online),
            model=policy(config, material.model),
            args=arguments,
            train_dataset=dataset,
            eval_dataset=held_out,
            processing_class=tokenizer,
            peft_config=_adapters(config, treatment.objective),
        )
    if online is not None:
        online.join(trainer)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress(say))
    trainer.add_callback(Remember(trainer.monitor))
    return trainer


def policy(config: Config, name: str) -> PreTrainedModel:
    """The policy to train, with a reward head where the objective reads a student's reward."""
    head = config.objective.reads("student_reward")
    return load_policy(
        name,
        dtype=config.model.get("dtype") or "float32",
        reward_head=head,
        head_seed=int(config.training.get("seed", 42)),
        attn_implementation=config.model.get("attn_implementation"),
        quantization=config.run.quantization,
        trust_remote_code=trusted(config),
    )


def _arguments(config: Config, material: Material, out: Path) -> DPOConfig:
    """TRL's arguments; raises `UserError` where TRL refuses them."""
    given = {**DEFAULTS, **material.defaults, **config.training, "output_dir": str(out)}
    if not torch.cuda.is_available():
        given = {"bf16": False, "use_cpu": True, **given}
    # The older names, and TRL's default of one, warn; the newer ones mean the same.
    for name, default in (("checkpointing", True), ("checkpointing_kwargs", None)):
        given.setdefault(f"activation_{name}", given.pop(f"gradient_{name}", default))
    if given.get("eval_strategy", "no") != "no" and material.evaluation is None:
        raise UserError("--eval-strategy", given["eval_strategy"], "needs --eval-data")
    with refused():
        return DPOConfig(**given)


@contextmanager
def refused(argument: str = "--config", value: object = None) -> Iterator[None]:
    """What TRL refuses becomes one line, of an argument."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UserError(argument, value, "TRL refuses it: " + (str(error).strip() or repr(error)).split("\n")[0]) from error


def _adapters(config: Config, objective: Objective) -> Any:
    """LoRA's configuration, or None for full fine-tuning."""
    given = config.model
    if not config.adapted:
        return None
    chosen = {short: given[key] for short, key in _LORA.items() if key in given}
    if chosen.get("target_modules") == ["all-linear"]:
        chosen["target_modules"] = "all-linear"  # PEFT's word for all, where a list would name them
    return peft_config(reward_head=objective.reads("student_reward"), **chosen)


_LORA = {"r": "lora_r", "alpha": "lora_alpha", "dropout": "lora_dropout", "target_modules": "lora_target_modules"}


def _fresh_kl(config: Config, name: str, tokenizer: PreTrainedTokenizerBase) -> FreshKL | None:
    """What estimates KL(π‖π_ref) on fresh samples, where the objective has that term."""
    if not float(treatment_of(config).coefficients.kl) or config.run.kl == "offline":
        return None
    reference = None
    if not config.adapted:
        reference = load_policy(name, dtype=config.model.get("dtype") or "float32", trust_remote_code=trusted(config))
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    return FreshKL(reference, None, int(eos), int(pad), config.run.kl_new_tokens)


def _record(config: Config, material: Material) -> dict[str, Any]:
    """What a run's numbers mean: its configuration, versions and seed."""
    schedule = treatment_of(config).schedule
    return {
        "method": config.objective.name,
        "objective": config.objective.sections.get("equation", config.objective.title),
        "hyperparameters": schedule.values,
        "annealed": {name: list(ends) for name, ends in schedule.annealed.items()},
        "logp": config.run.logp,
        "kl": config.run.kl,
        "gamma": config.run.gamma,
        "model": material.model,
        "config": config.flat(),
        "versions": {name: version(name) for name in VERSIONS},
    }


def _result(trainer: PreferenceTrainer, seconds: float) -> dict[str, Any]:
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    held_out = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "seed": trainer.args.seed,
        "output_dir": str(trainer.args.output_dir),
        "train": logged[-1] if logged else {},
        "eval": held_out[-1] if held_out else None,
        "degenerate": any(entry.get("degenerate", 0) > 0 for entry in logged),
    }

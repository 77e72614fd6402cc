"""Random language models, random texts and trainers for the benchmarks of `llm`: nothing is downloaded."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from llm.trainers.preference import PreferenceTrainer, Treatment
from llm.trainers.schedule import Schedule
from theory.objectives import get

PAD, EOS, UNKNOWN = range(3)
SPECIAL = ("<pad>", "<eos>", "<unk>")
# What every run here sets: TRL's other defaults stay, gradient checkpointing among them.
SETTINGS: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "seed": 0}
ON_CPU: dict[str, Any] = {"use_cpu": True, "bf16": False, "dataloader_pin_memory": False}


def quiet() -> None:
    """No progress bars, no telemetry and no notes of the libraries."""
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


def tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """One token a word, w3 … w(vocab − 1), and three special ones."""
    names = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), vocab))]
    rules = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=SPECIAL[UNKNOWN]))
    rules.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token=SPECIAL[PAD], eos_token=SPECIAL[EOS], unk_token=SPECIAL[UNKNOWN]
    )


def random_model(fact: Mapping[str, Any], *, seed: int = 0, **options: Any) -> Any:
    """A transformer with random weights of a configuration (keys as in ``config.json``)."""
    family = fact["model_type"]
    given = {name: value for name, value in fact.items() if name != "model_type"}
    config = AutoConfig.for_model(family, **given, pad_token_id=PAD, bos_token_id=EOS, eos_token_id=EOS)
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, **options)


def save(fact: Mapping[str, Any], folder: Path) -> None:
    """A random model, float32, and its tokenizer as a folder that both trainers' loaders read."""
    random_model(fact, dtype=torch.float32).save_pretrained(folder)
    tokenizer(fact["vocab_size"]).save_pretrained(folder)


def random_pairs(rows: int, prompt: int, completion: int, vocab: int, *, ragged: bool = True, seed: int = 0) -> Dataset:
    """Preferences of random words.

    Args:
        prompt, completion: their lengths in tokens, a completion's with its end; ``ragged`` ones are between half of it and it.
    """
    rng = np.random.default_rng(seed)

    def text(longest: int) -> str:
        length = int(rng.integers(longest // 2, longest + 1)) if ragged else longest
        return " ".join(f"w{i}" for i in rng.integers(len(SPECIAL), vocab, length))

    columns: dict[str, list[str]] = {"id": [], "prompt": [], "chosen": [], "rejected": []}
    for row in range(rows):
        columns["id"].append(str(row))
        columns["prompt"].append(text(prompt))
        columns["chosen"].append(" " + text(completion - 1))
        columns["rejected"].append(" " + text(completion - 1))
    return Dataset.from_dict(columns)


def arguments(out: Path, **given: Any) -> DPOConfig:
    """TRL's arguments of a run that saves nothing."""
    machine = {} if torch.cuda.is_available() else ON_CPU
    return DPOConfig(output_dir=str(out), **{**SETTINGS, **machine, **given})


def treatment(method: str, **hyper: float) -> Treatment:
    """An objective at some hyperparameters, its KL (if any) on the data."""
    objective = get(method)
    return Treatment(objective, Schedule.of(objective, hyper))


def ours(method: Treatment, model: Any, args: DPOConfig, dataset: Dataset, words: Any) -> PreferenceTrainer:
    """Our trainer, on tokenised and scored data."""
    return _silent(PreferenceTrainer(treatment=method, model=model, args=args, train_dataset=dataset, processing_class=words))


def trls(model: Any, args: DPOConfig, dataset: Dataset, words: Any) -> DPOTrainer:
    """TRL's own trainer, on text."""
    return _silent(DPOTrainer(model=model, args=args, train_dataset=dataset, processing_class=words))


def _silent(trainer: Any) -> Any:
    trainer.remove_callback(PrinterCallback)
    return trainer


class Clock(TrainerCallback):
    """Times the steps after the first ``warm`` ones, with everything that happens between them.

    Attributes:
        seconds: of the steps timed so far.
    """

    def __init__(self, warm: int):
        self.warm = warm
        self.seconds = self._start = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step < self.warm:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step == self.warm:
            self._start = time.perf_counter()
        self.seconds = time.perf_counter() - self._start

"""Peak memory of DRDO, which holds one model, over DPO's, which holds its reference too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from benchmarks.language_models import arguments, ours, quiet, random_pairs, save, tokenizer, treatment, trls
from benchmarks.processes import MIB, run
from benchmarks.record import Measure, Record
from llm.data.tokens import tokenise
from llm.models.load import load_policy
from llm.plan.shapes import FACTS, shape_of

# A shape of drdo Table 6, and the largest that fits a GPU of 80 GB with room to spare.
ON_CPU, ON_GPU = "facebook/opt-350m", "facebook/opt-1.3b"
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 256,
    "vocab_size": 512,
    "word_embed_proj_dim": 64,
}
# Optimisers by the copies of the weights that they keep: none, almost none, two.
OPTIMISERS = {"sgd": "weights and gradients alone (SGD)", "adafactor": "Adafactor", "adamw_torch": "AdamW"}
STEPS, PAIRS, PROMPT, COMPLETION = 2, 1, 128, 128
TARGET = 0.75


def benchmark(quick: bool) -> Record:
    quiet()
    on_gpu = torch.cuda.is_available()
    name = ON_GPU if on_gpu else ON_CPU
    fact = {**FACTS[name], **TINY} if quick else FACTS[name]
    with TemporaryDirectory() as folder:
        save(fact, Path(folder) / "model")
        shape = shape_of(f"{folder}/model")
        found = {optim: {side: _child(side, optim, folder) for side in SIDES} for optim in OPTIMISERS}
    ratios = {optim: sides["drdo"]["training"] / sides["dpo"]["training"] for optim, sides in found.items()}
    target = None if quick else TARGET  # a tiny model's weights are nothing beside the rest
    where = "`torch.cuda.max_memory_allocated`" if on_gpu else "the process's largest resident memory less that before the model"
    return Record(
        "llm_memory",
        "Peak memory of DRDO (`PreferenceTrainer`, reward head, precomputed oracle rewards) over that of DPO (TRL's "
        f"`DPOTrainer`, whose default is a reference in memory): the shape of {name} ({shape.parameters / 1e6:.0f}M parameters, "
        f"random, float32), {PAIRS} pair of {PROMPT + COMPLETION} tokens a sequence, gradient checkpointing as TRL has it, "
        f"{STEPS} steps, each in a process of its own. Measured is {where}, over the training. With W the weights, both hold W, "
        "gradients W and activations; AdamW adds 2 W to both, the reference 1 W to DPO. So no ratio below 4/5 is possible with "
        "AdamW in one precision, and none below 2/3 with an optimiser that keeps nothing; a larger batch, whose activations "
        "both hold, brings every ratio nearer to 1.",
        tuple(Measure(f"{OPTIMISERS[optim]}: DRDO over DPO", ratio, "x", target) for optim, ratio in ratios.items()),
        {
            "weights_mib": shape.parameters * 4 / MIB,
            "mib": found,
            "ratio_with_loading": {o: sides["drdo"]["process"] / sides["dpo"]["process"] for o, sides in found.items()},
            "least_possible_ratio": {"sgd": 2 / 3, "adafactor": 2 / 3, "adamw_torch": 4 / 5},
            "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        },
    )


def _child(side: str, optim: str, folder: str) -> dict[str, float]:
    """What one process reports of itself, MiB."""
    output = run([sys.executable, "-m", "benchmarks.llm_memory", side, optim, folder]).output
    return json.loads(output.splitlines()[-1])


def main(side: str, optim: str, folder: str) -> None:
    """One training in this process; prints its peak memory in MiB, during the training and from the loading on."""
    quiet()
    model = f"{folder}/model"
    words = tokenizer(shape_of(model).vocab)
    texts = random_pairs(STEPS * PAIRS, PROMPT, COMPLETION, len(words), ragged=False)
    args = arguments(
        Path(folder) / "run",
        optim=optim,
        max_steps=STEPS,
        per_device_train_batch_size=PAIRS,
        max_length=PROMPT + COMPLETION,
        learning_rate=1e-6,
    )
    before = 0.0 if torch.cuda.is_available() else _resident("VmRSS")
    trainer = SIDES[side](model, args, texts, words)
    loading = _peak()
    _forget_peak()
    trainer.train()
    training = _peak()
    print(json.dumps({"before": before, "training": training - before, "process": max(loading, training) - before}))


def _drdo(model: str, args: Any, texts: Dataset, words: Any) -> Any:
    rewards = np.random.default_rng(0).normal(size=(2, len(texts)))
    scored = texts.add_column("reward_chosen", rewards[0].tolist()).add_column("reward_rejected", rewards[1].tolist())
    policy = load_policy(model, reward_head=True)
    return ours(treatment("drdo"), policy, args, tokenise(scored, words, args.max_length), words)


def _dpo(model: str, args: Any, texts: Dataset, words: Any) -> Any:
    return trls(load_policy(model), args, texts, words)


SIDES: dict[str, Callable[..., Any]] = {"drdo": _drdo, "dpo": _dpo}


def _peak() -> float:
    """The most memory since the last `_forget_peak`, MiB."""
    return torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else _resident("VmHWM")


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's own way to reset VmHWM


def _resident(field: str) -> float:
    """A field of this process's status, MiB (the kernel writes KiB)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(*sys.argv[1:])

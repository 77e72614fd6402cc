"""How much of a GPU the trainers use: tokens a second, memory and utilisation at the papers' shapes."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from benchmarks.language_models import EOS, PAD, SPECIAL, Clock, arguments, ours, quiet, random_model, tokenizer, treatment
from benchmarks.record import Measure, Record
from llm.config import RunArguments
from llm.data.tokens import TOKENS
from llm.models.logps import sequence_logps
from llm.models.reward_head import add_reward_head
from llm.plan.compute import GPUS
from llm.plan.shapes import FACTS, FAMILIES, Fact, Shape
from llm.trainers.collator import PairCollator
from llm.trainers.online import FreshKL

MODELS = ("EleutherAI/pythia-2.8b-deduped", "facebook/opt-1.3b")
GOAL = 0.4
GIB = 2**30


@dataclass(frozen=True)
class Case:
    """An objective and how it is trained; ``fresh`` samples estimate its KL, else the data do."""

    method: str
    fresh: bool = False
    dtype: torch.dtype = torch.bfloat16
    goal: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        return self.method + ", KL on fresh samples" * self.fresh + ", float32 weights" * (self.dtype == torch.float32)


CASES = (
    Case("sft", goal=GOAL),
    Case("dpo", goal=GOAL),
    Case("dpo", dtype=torch.float32),
    Case("pmle"),
    Case("pmle", fresh=True),
    Case("drdo"),
)


@dataclass(frozen=True)
class Sizes:
    """Tokens of a prompt, a completion and a fresh sample; pairs of a step; steps, the first ``warm`` of them not timed."""

    prompt: int = 512
    completion: int = 512
    sampled: int = RunArguments.kl_new_tokens
    pairs: int = 4
    warm: int = 4
    steps: int = 16


TINY = Sizes(prompt=32, completion=32, sampled=8, pairs=2, warm=1, steps=3)
# By family: the keys of a configuration that make it tiny.
_FEW = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512}
TINY_FACTS: dict[str, Fact] = {
    "gpt_neox": {**_FEW, "intermediate_size": 256},
    "opt": {**_FEW, "ffn_dim": 256, "word_embed_proj_dim": 64},
}


def benchmark(quick: bool) -> Record:
    quiet()
    gpu = torch.cuda.is_available()
    tiny = quick or not gpu
    sizes, found = TINY if tiny else Sizes(), {}
    for name in MODELS:
        fact = {**FACTS[name], **TINY_FACTS[FACTS[name]["model_type"]]} if tiny else FACTS[name]
        found[name] = {case.name: _measured(fact, case, sizes) for case in CASES}
    device = torch.cuda.get_device_name() if gpu else "cpu"
    what = "tiny shapes, to see that the code runs" if tiny else "random weights"
    return Record(
        "llm_gpu",
        f"The shapes of {' and '.join(MODELS)} ({what}) trained by `PreferenceTrainer` on {device}: {sizes.pairs} pairs of "
        f"random tokens a step, {sizes.prompt} of the prompt and {sizes.completion} of the completion in each sequence (fresh "
        f"samples have {sizes.sampled}), AdamW; weights, gradients and AdamW's states in bfloat16 unless float32 weights (under "
        "bfloat16 autocast) are named; no checkpointing of activations. Utilisation: 6·N·tokens over time and the GPU's dense "
        f"bfloat16 peak, over {sizes.steps - sizes.warm} steps after {sizes.warm}, data loading and metrics included. N are the "
        "weights that a token is multiplied with, so the LM head counts on completions alone; attention's scores, the sampling "
        "and the reference's passes do not count, and of a pair only the sequences that the objective reads.",
        tuple(_measure(name, case, found[name][case.name], tiny) for name in MODELS for case in CASES),
        {"device": device, **found},
        reduced=tiny,
    )


def _measure(model: str, case: Case, values: dict[str, Any], tiny: bool) -> Measure:
    short = model.partition("/")[2]
    if "utilisation" not in values:
        return Measure(f"{short}, {case.name}: tokens/s", values["tokens_per_second"], "/s")
    goal = None if tiny else case.goal
    return Measure(f"{short}, {case.name}: utilisation", values["utilisation"], "", goal, at_most=False)


def _measured(fact: Fact, case: Case, sizes: Sizes) -> dict[str, Any]:
    """One training: tokens a second, peak memory and utilisation."""
    _release()
    with TemporaryDirectory() as folder:
        trainer, clock = _trainer(fact, case, sizes, Path(folder)), Clock(sizes.warm)
        trainer.add_callback(clock)
        trainer.train()
    seconds = clock.seconds / (sizes.steps - sizes.warm)
    sequences, samples = sizes.pairs * (1 if trainer.treatment.one_sided else 2), sizes.pairs * case.fresh
    completions = sequences * sizes.completion + samples * sizes.sampled
    tokens = (sequences + samples) * sizes.prompt + completions
    shape = FAMILIES[fact["model_type"]](fact)
    values: dict[str, Any] = {
        "seconds_per_step": seconds,
        "tokens_per_second": tokens / seconds,
        "parameters": shape.parameters,
        "attention": trainer.model.config._attn_implementation,
    }
    if torch.cuda.is_available():
        values["peak_gib"] = torch.cuda.max_memory_allocated() / GIB
        if (peak := _peak_flops()) is not None:
            values["utilisation"] = _flops(shape, tokens, completions) / seconds / peak
    trainer.accelerator.free_memory()
    return values


def _flops(shape: Shape, tokens: int, completions: int) -> float:
    """6·N·tokens (Kaplan et al. 2020 §2.1), the LM head's share on completions alone: that is where it is used."""
    return 6.0 * (shape.linear_weights * tokens + shape.table * completions)


def _trainer(fact: Fact, case: Case, sizes: Sizes, folder: Path) -> Any:
    method = treatment(case.method)
    model, online = _model(fact, case.dtype), None
    dataset = _scored(model, _pairs(fact["vocab_size"], sizes), sizes)
    if method.objective.reads("student_reward"):
        add_reward_head(model)
    if case.fresh:
        online = FreshKL(_model(fact, case.dtype), None, EOS, PAD, sizes.sampled)
        method = replace(method, online_kl=online)
    args = arguments(
        folder,
        max_steps=sizes.steps,
        per_device_train_batch_size=sizes.pairs,
        max_length=sizes.prompt + sizes.completion,
        gradient_checkpointing=False,
        learning_rate=1e-6,
    )
    trainer = ours(method, model, args, dataset, tokenizer(len(SPECIAL)))
    if online is not None:
        online.join(trainer)
    return trainer


def _model(fact: Fact, dtype: torch.dtype) -> Any:
    with torch.device("cuda") if torch.cuda.is_available() else nullcontext():
        return random_model(fact, dtype=dtype)


def _pairs(vocab: int, sizes: Sizes) -> Dataset:
    """Random tokens of equal lengths, with random rewards."""
    rng, rows = np.random.default_rng(0), sizes.steps * sizes.pairs
    lengths = (sizes.prompt, sizes.completion, sizes.completion)
    columns: dict[str, Any] = {
        name: rng.integers(len(SPECIAL), vocab, (rows, length)).tolist() for name, length in zip(TOKENS, lengths, strict=True)
    }
    return Dataset.from_dict({**columns, **{f"reward_{side}": rng.normal(size=rows).tolist() for side in ("chosen", "rejected")}})


def _scored(model: Any, dataset: Dataset, sizes: Sizes) -> Dataset:
    """The pairs with the model's own log-probabilities as the reference's."""
    from trl.trainer.utils import add_fused_lm_head

    plain = model.eval().forward  # without dropout
    add_fused_lm_head(model)
    collator, found = PairCollator(PAD, sizes.prompt + sizes.completion), []
    for start in range(0, len(dataset), sizes.pairs):
        rows = dataset.select_columns(list(TOKENS)).select(range(start, start + sizes.pairs)).to_list()
        with torch.inference_mode():
            batch = {name: value.to(model.device) for name, value in collator(rows).items()}
            found.append(sequence_logps(model, batch)[0].reshape(2, -1).double().cpu())
    model.forward = plain
    chosen, rejected = torch.cat(found, 1).tolist()
    return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)


def _peak_flops() -> float | None:
    """Dense bfloat16 FLOP/s of this GPU as in its data sheet; None if it is not among `GPUS`."""
    name = torch.cuda.get_device_name().lower()
    known = [key for key in GPUS if all(part in name for part in key.split("-"))]
    return GPUS[max(known, key=len)].tflops * 1e12 if known else None


def _release() -> None:
    """Give back what an earlier training held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

"""DPO through our trainer against TRL's own `DPOTrainer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset

from benchmarks.environment import cores
from benchmarks.language_models import Clock, arguments, ours, quiet, random_pairs, save, tokenizer, treatment, trls
from benchmarks.record import Measure, Record
from benchmarks.timing import threads
from llm.data.tokens import tokenise
from llm.models.load import load_policy
from llm.scoring.cache import join
from llm.scoring.job import Job
from llm.scoring.score import score

BETA, RATE = 0.1, 3e-4
WARM, STEPS = 2, 20


@dataclass(frozen=True)
class Sizes:
    """Of the model, the data and the measurement."""

    width: int = 256
    layers: int = 4
    vocab: int = 8192
    prompt: int = 64
    completion: int = 64
    batch: int = 4
    repetitions: int = 9

    @property
    def fact(self) -> dict[str, Any]:
        """A Llama's configuration."""
        heads = self.width // 64
        return {
            "model_type": "llama",
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "intermediate_size": 4 * self.width,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.prompt + self.completion,
            "tie_word_embeddings": False,
        }


QUICK = Sizes(width=64, layers=2, vocab=512, prompt=32, completion=32, repetitions=1)


@dataclass(frozen=True)
class Run:
    """One run: the loss of every step, nats, and the timed steps' tokens a second."""

    losses: list[float]
    tokens_per_second: float


def benchmark(quick: bool) -> Record:
    quiet()
    sizes = QUICK if quick else Sizes()
    with TemporaryDirectory() as folder, threads(cores()):
        sides = _sides(Path(folder), sizes)
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        for repetition in range(sizes.repetitions):
            # Interleaved, each first as often as the other, so that a slow spell of the machine meets both.
            for name in list(sides)[:: 1 if repetition % 2 else -1]:
                runs[name].append(sides[name]())
    speed = {name: median(run.tokens_per_second for run in found) for name, found in runs.items()}
    mine, theirs = runs["ours"][0].losses, runs["trl"][0].losses
    apart = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
    return Record(
        "llm_parity",
        f"DPO (β = {BETA:g}) on one random Llama (width {sizes.width}, {sizes.layers} layers, {sizes.vocab} tokens; float32) and "
        f"{sizes.batch} pairs of random words a step, at most {sizes.prompt + sizes.completion} tokens each, by `PreferenceTrainer` "
        "and by TRL's `DPOTrainer`: same weights, texts, order and arguments. Neither holds a reference: TRL's has "
        "`precompute_ref_log_probs`, ours reads the columns of `llm score`. Tokens a second of the steps after the first "
        f"{WARM}, data loading and metrics included: medians of {sizes.repetitions} interleaved runs of {STEPS} steps. Loss: the "
        f"largest absolute difference over the {STEPS} steps.",
        (
            Measure("tokens/s over TRL's DPOTrainer", speed["ours"] / speed["trl"], "x", target=1.0, at_most=False),
            Measure("largest difference of the loss", apart, "nats", target=1e-6),
            Measure("our tokens/s", speed["ours"], "/s"),
            Measure("TRL's tokens/s", speed["trl"], "/s"),
        ),
        {
            "repetitions": sizes.repetitions,
            "steps": STEPS,
            "warm_steps": WARM,
            "learning_rate": RATE,
            "torch_threads": cores(),
            "loss_of_first_and_last_step": [theirs[0], theirs[-1]],
            "tokens_per_second": {name: [run.tokens_per_second for run in found] for name, found in runs.items()},
        },
    )


def _sides(folder: Path, sizes: Sizes) -> dict[str, Callable[[], Run]]:
    """What runs each trainer once, from the same saved model and texts."""
    model = folder / "model"
    save(sizes.fact, model)
    words = tokenizer(sizes.vocab)
    texts = random_pairs(STEPS * sizes.batch, sizes.prompt, sizes.completion, sizes.vocab)
    longest = sizes.prompt + sizes.completion
    args = {
        "max_steps": STEPS,
        "logging_steps": 1,
        "per_device_train_batch_size": sizes.batch,
        "max_length": longest,
        "learning_rate": RATE,
        "beta": BETA,
        "precompute_ref_log_probs": True,
    }
    ready = _scored(folder, texts, words, longest)
    method = treatment("dpo", beta=BETA)

    def run_ours() -> Run:
        return _timed(ours(method, load_policy(str(model)), arguments(folder / "run", **args), ready, words))

    def run_trls() -> Run:
        return _timed(trls(load_policy(str(model)), arguments(folder / "run", **args), texts, words))

    return {"ours": run_ours, "trl": run_trls}


def _scored(folder: Path, texts: Dataset, words: Any, longest: int) -> Dataset:
    """The texts with our reference log-probabilities, as tokens."""
    score(texts, Job(models=(str(folder / "model"),), kind="reference", max_length=longest), folder / "scores.parquet")
    return tokenise(join(texts, folder / "scores.parquet", tokenizer=words, max_length=longest), words, longest)


def _timed(trainer: Any) -> Run:
    clock, counted = Clock(WARM), {}
    trainer.add_callback(clock)
    trainer.train()
    for entry in trainer.state.log_history:
        if "num_tokens" in entry and "step" in entry:
            counted[entry["step"]] = entry["num_tokens"]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Run(losses, (counted[STEPS] - counted[WARM]) / clock.seconds)

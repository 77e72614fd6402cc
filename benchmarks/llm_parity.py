"""DPO through our trainer against TRL's own `DPOTrainer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, concatenate_datasets

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
# Threads that wait for each other make the times of a shared machine jump.
THREADS = 1
OURS, PEER, SCORED = "ours", "trl", "ours with llm score"


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

    def apart(self, other: Run) -> float:
        """The largest absolute difference of the two curves, nats."""
        return max(abs(a - b) for a, b in zip(self.losses, other.losses, strict=True))


def benchmark(quick: bool) -> Record:
    quiet()
    sizes = QUICK if quick else Sizes()
    with TemporaryDirectory() as folder, threads(THREADS):
        sides = _sides(Path(folder), sizes)
        scored = sides.pop(SCORED)()
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        for repetition in range(sizes.repetitions):
            # Interleaved, each first as often as the other, so that a slow spell of the machine meets both.
            for name in list(sides)[:: 1 if repetition % 2 else -1]:
                runs[name].append(sides[name]())
    speed = {name: median(run.tokens_per_second for run in found) for name, found in runs.items()}
    peer = runs[PEER][0]
    return Record(
        "llm_parity",
        f"DPO (β = {BETA:g}) on one random Llama (width {sizes.width}, {sizes.layers} layers, {sizes.vocab} tokens; float32) "
        f"and {sizes.batch} pairs of random words a step, at most {sizes.prompt + sizes.completion} tokens a sequence, by "
        "`PreferenceTrainer` and by TRL's `DPOTrainer`: same weights, texts, order, arguments and reference log-probabilities, "
        "which both read (`precompute_ref_log_probs`): neither holds a reference. Tokens a second of the steps after the first "
        f"{WARM}, data loading and metrics included, on one thread: medians of {sizes.repetitions} interleaved runs of {STEPS} "
        f"steps. Loss: the largest absolute difference over the {STEPS} steps. With the log-probabilities of `llm score`, whose "
        "batches are others, float32's rounding of a sum of hundreds of nats is in the difference too.",
        (
            Measure("tokens/s over TRL's DPOTrainer", speed[OURS] / speed[PEER], "x", target=1.0, at_most=False),
            Measure("largest difference of the loss", peer.apart(runs[OURS][0]), "nats", target=1e-6),
            Measure("the same with llm score's reference", peer.apart(scored), "nats"),
            Measure("our tokens/s", speed[OURS], "/s"),
            Measure("TRL's tokens/s", speed[PEER], "/s"),
        ),
        {
            "repetitions": sizes.repetitions,
            "steps": STEPS,
            "warm_steps": WARM,
            "learning_rate": RATE,
            "torch_threads": THREADS,
            "loss_of_first_and_last_step": [peer.losses[0], peer.losses[-1]],
            "tokens_per_second": {name: [run.tokens_per_second for run in found] for name, found in runs.items()},
        },
    )


def _sides(folder: Path, sizes: Sizes) -> dict[str, Callable[[], Run]]:
    """What runs each trainer once, from the same saved model, texts and reference log-probabilities."""
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
    method = treatment("dpo", beta=BETA)

    def run_trls() -> Run:
        return _timed(trls(load_policy(str(model)), arguments(folder / "run", **args), texts, words))

    def run_ours(dataset: Dataset) -> Run:
        return _timed(ours(method, load_policy(str(model)), arguments(folder / "run", **args), dataset, words))

    peer = trls(load_policy(str(model)), arguments(folder / "run", **args), texts, words)
    columns = [peer.train_dataset.select_columns(["ref_chosen_logps", "ref_rejected_logps"])]
    same = tokenise(concatenate_datasets([texts, *columns], axis=1), words, longest)
    own = _scored(folder, texts, words, longest)
    return {OURS: partial(run_ours, same), PEER: run_trls, SCORED: partial(run_ours, own)}


def _scored(folder: Path, texts: Dataset, words: Any, longest: int) -> Dataset:
    """The texts with our own reference log-probabilities, as tokens."""
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

"""A tiny transformer that is the language's reference policy, fitted once and kept in a folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from llm.world.tiny import HEADS, LAYERS, WIDTH, tiny_model
from llm.world.tokenizer import encode, make_tokenizer, token_ids
from theory.errors import UserError
from theory.files import writing
from theory.instances.language import END, Language, Tokens
from theory.instances.language_files import save_language

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RECORD, WORLD = "reference.json", "language.npz"
# Raised when the recipe changes, so that folders of an older one are not taken for its result.
RECIPE = 1
# The distance is measured every so many steps once a batch suggests that it is small, on all responses up to LARGEST
# (prompt, response) pairs and on as many drawn ones beyond.
EVERY, LARGEST, CHUNK = 10, 20_000, 1024

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Fitting:
    """How the reference is fitted; at T = 6, L = 3, X = 4 some 150 steps reach 1e-3 nats, at order 2 some 400.

    Attributes:
        family, layers, width, heads: of `tiny_model`.
        seed: of the weights and of the batches.
        tolerance: KL(π_ref‖π) to stop at, nats.
        steps: most steps; the learning rate falls to 0 by then, as a cosine.
        batch: responses drawn from π_ref at each step.
        learning_rate, warmup: of AdamW (no weight decay), and the steps of its linear start.
    """

    family: str = "llama"
    layers: int = LAYERS
    width: int = WIDTH
    heads: int = HEADS
    seed: int = 0
    tolerance: float = 1e-3
    steps: int = 600
    batch: int = 256
    learning_rate: float = 5e-3
    warmup: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "warmup"):
            if getattr(self, name) < 1:
                raise UserError(name, getattr(self, name), "must be at least 1")
        for name in ("tolerance", "learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UserError(name, getattr(self, name), "must be positive and finite")

    def key(self, language: Language) -> str:
        """A name for the fit of this language: a hash of everything that decides it."""
        text = json.dumps({"language": language.fingerprint, "recipe": RECIPE, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Reference:
    """A fitted reference in its folder, which `load_policy` and `load_tokenizer` read.

    Attributes:
        path: the folder: weights, tokenizer, the language and this record.
        kl: KL(π_ref‖π), nats, over all of the model's outputs.
        exact: whether kl is a sum over all responses, not a mean over drawn ones.
        steps, seconds: of the fit, when it was made.
        reached: whether kl is within the tolerance.
        reused: whether the folder was there already.
    """

    path: Path
    kl: float
    exact: bool
    steps: int
    seconds: float
    reached: bool
    reused: bool


def fit_reference(
    language: Language, cache: str | Path, fitting: Fitting | None = None, *, progress: Progress | None = None
) -> Reference:
    """Fit a tiny transformer to π_ref, or find the one that an earlier call left.

    Minimises KL(π_ref‖π) = Σ_x (1/X) Σ_y π_ref(y|x) log(π_ref(y|x)/π(y|x)). Each step draws responses from π_ref
    and takes at each of their positions the whole next-token distribution of π_ref as the label, so that a batch's
    loss has the same mean as over all (x, y) and no noise left where the model is right; it needs no enumeration.

    Args:
        language: whose reference.
        cache: the folder is made in this one, under `Fitting.key`, complete or not at all.
        fitting: how; the defaults if None.
        progress: called with (step, most steps, the batch's KL in nats) after every step.

    Raises:
        UserError: an unknown family, a setting out of range, or a cache that cannot be written.
    """
    fitting = fitting or Fitting()
    folder = Path(cache) / fitting.key(language)
    if (folder / RECORD).is_file():
        return _found(folder)
    with writing("cache", cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            tokenizer = make_tokenizer(language)
            model = tiny_model(
                tokenizer,
                family=fitting.family,
                layers=fitting.layers,
                width=fitting.width,
                heads=fitting.heads,
                seed=fitting.seed,
            )
            record = _fit(model, Chain(language, tokenizer), fitting, progress)
            _save(partial, model, tokenizer, language, {**record, "fitting": asdict(fitting)})
            os.chmod(partial, 0o755)
            _publish(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Reference(path=folder, reused=False, **record)


def _publish(partial: Path, folder: Path) -> None:
    """Give a finished folder its name."""
    try:
        os.rename(partial, folder)
    except OSError:
        if not (folder / RECORD).is_file():  # else another process was quicker, with the same result
            raise


def _found(folder: Path) -> Reference:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        record.pop("fitting")
        return Reference(path=folder, reused=True, **record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("cache", folder, f"holds a damaged {RECORD}; remove the folder and run again") from error


def _save(folder: Path, model: Any, tokenizer: Any, language: Language, record: dict[str, Any]) -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # one line for one small file
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
    save_language(language, folder / WORLD, "cache")
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class Chain:
    """π_ref's next-token distributions over a tokenizer's vocabulary, and a model's distance to them."""

    def __init__(self, language: Language, tokenizer: PreTrainedTokenizerBase):
        self.language, self.tokenizer = language, tokenizer
        prompts, symbols = token_ids(tokenizer, language)
        self.prompt_length = len(prompts[0])
        if any(len(ids) != self.prompt_length for ids in prompts):
            raise UserError("tokenizer", None, "gives the prompts different lengths: it is not this language's")
        table = np.exp(language.next_log_probs("reference"))
        rows = np.zeros((*table.shape[:2], len(tokenizer)), dtype=np.float32)
        rows[:, :, symbols[: table.shape[2]]] = table
        self.rows = torch.from_numpy(rows)
        self.end = torch.zeros(len(tokenizer))
        self.end[symbols[-1]] = 1

    def labels(self, prompt: Tokens, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """The distribution of what comes at each of L + 1 positions, and which of them a response reaches.

        After L tokens the end is certain. Shapes (N, L + 1, vocabulary) and (N, L + 1).
        """
        rows = self.rows[prompt[:, None], self.language.states(tokens)]
        labels = torch.cat([rows, self.end.expand(len(tokens), 1, -1)], dim=1)
        reached = np.concatenate([np.ones((len(tokens), 1), dtype=bool), tokens != END], axis=1)
        return labels, torch.from_numpy(reached)

    def divergence(self, model: PreTrainedModel, prompt: Tokens, tokens: Tokens) -> Tensor:
        """Σ_t KL(π_ref(·|x, y_<t)‖π(·|x, y_<t)) along each response, nats, shape (N,).

        Its mean under π_ref is KL(π_ref‖π), what the model puts outside the language included (chain rule).
        """
        inputs = encode(self.tokenizer, self.language, prompt, tokens)
        ids, mask = (torch.from_numpy(inputs[name]) for name in ("input_ids", "attention_mask"))
        positions = slice(self.prompt_length - 1, self.prompt_length + self.language.length)
        logp = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, positions].log_softmax(-1)
        labels, reached = self.labels(prompt, tokens)
        return ((torch.xlogy(labels, labels) - labels * logp).sum(-1) * reached).sum(-1)

    def kl(self, model: PreTrainedModel) -> tuple[float, bool]:
        """KL(π_ref‖π), nats, and whether it is the sum over all responses (else the mean over `LARGEST` drawn ones)."""
        language = self.language
        exact = language.enumerable and language.vocab * language.prompts <= LARGEST
        if exact:
            prompt = np.repeat(np.arange(language.prompts), language.vocab)
            tokens = np.tile(language.responses(), (language.prompts, 1))
            weights = np.exp(language.log_probs("reference")).ravel() / language.prompts
        else:
            prompt = np.tile(np.arange(language.prompts), -(-LARGEST // language.prompts))
            tokens = language.sample("reference", prompt, np.random.default_rng(0))
            weights = np.full(len(prompt), 1 / len(prompt))
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(prompt), CHUNK):
                part = slice(start, start + CHUNK)
                total += float(weights[part] @ self.divergence(model, prompt[part], tokens[part]).double().numpy())
        return total, exact


def _fit(model: PreTrainedModel, chain: Chain, fitting: Fitting, progress: Progress | None) -> dict[str, Any]:
    """Train the model in place; the record of how it went."""
    start, language = time.perf_counter(), chain.language
    rng = np.random.default_rng(np.random.SeedSequence(fitting.seed, spawn_key=(33,)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=fitting.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, fitting))
    model.train()
    kl, exact, step = math.inf, True, 0
    for step in range(1, fitting.steps + 1):
        # All prompts in turn, also where a batch is smaller than their number.
        prompt = np.arange((step - 1) * fitting.batch, step * fitting.batch) % language.prompts
        loss = chain.divergence(model, prompt, language.sample("reference", prompt, rng)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        found = loss.item()
        if progress is not None:
            progress(step, fitting.steps, found)
        if step == fitting.steps or (step % EVERY == 0 and found < 2 * fitting.tolerance):
            kl, exact = chain.kl(model)
            if kl <= fitting.tolerance:
                break
    model.eval()
    seconds = time.perf_counter() - start
    return {"kl": kl, "exact": exact, "steps": step, "seconds": seconds, "reached": kl <= fitting.tolerance}


def _rate(step: int, fitting: Fitting) -> float:
    """A linear start, then a cosine to 0."""
    return min(1.0, (step + 1) / fitting.warmup) * (1 + math.cos(math.pi * step / fitting.steps)) / 2

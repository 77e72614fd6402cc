"""A language of twelve responses, models that know it, and its log-probabilities summed by hand in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOConfig

from llm.data.tokens import tokenise
from llm.trainers.collator import PairCollator
from llm.trainers.preference import PreferenceTrainer, Treatment
from llm.trainers.schedule import Schedule
from llm.world.texts import preference_dataset, prompt_texts, response_texts
from llm.world.tiny import tiny_model
from llm.world.tokenizer import make_tokenizer
from theory import objectives
from theory.instances.language import random_language
from theory.objectives import Objective, Pair

# Responses of one or two of three tokens, so that lengths differ.
LANGUAGE = random_language(0, tokens=3, length=2, prompts=2, eos=True)
TOKENIZER = make_tokenizer(LANGUAGE)
SIDES = ("chosen", "rejected")
__all__ = ["PairCollator", "preference_dataset"]


def trainable() -> list[str]:
    """The registered objectives that maximise nothing on samples of their own."""
    found = []
    for name in objectives.names():
        terms = objectives.get(name).coefficients()
        if not float(terms.reward) and not float(terms.entropy):
            found.append(name)
    return found


def model(seed: int = 0, *, family: str = "llama", reward_head: bool = False) -> Any:
    """A random model whose distributions are far from uniform."""
    made = tiny_model(TOKENIZER, family=family, layers=1, width=16, heads=2, seed=seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(16)
    if reward_head:
        from llm.models.reward_head import add_reward_head

        add_reward_head(made, seed)
    return made.eval()


def save(made: Any, folder: Path) -> Path:
    """A model and the tokenizer in a folder."""
    made.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Table:
    """Of every response to every prompt: log π, tokens with the end, the last hidden state's reward; shape (X, V)."""

    logp: Tensor
    length: Tensor
    reward: Tensor | None


def table(made: Any) -> Table:
    """A model's table by the definition, one sequence after the other, in float64, with a gradient."""
    prompts, responses = prompt_texts(LANGUAGE), response_texts(LANGUAGE, LANGUAGE.responses())
    rows = [_one(made, prompt, response) for prompt in prompts for response in responses]
    logp, length, reward = zip(*rows, strict=True)
    shape = (len(prompts), len(responses))
    head = None if reward[0] is None else torch.stack(reward).reshape(shape)
    return Table(torch.stack(logp).reshape(shape), torch.tensor(length, dtype=torch.float64).reshape(shape), head)


def double(made: Any) -> Any:
    """A copy in float64."""
    return copy.deepcopy(made).double().eval()


def _one(made: Any, prompt: str, response: str) -> tuple[Tensor, int, Tensor | None]:
    before = TOKENIZER(prompt)["input_ids"]
    after = [*TOKENIZER(response)["input_ids"], TOKENIZER.eos_token_id]
    ids = torch.tensor([[*before, *after]])
    hidden = made.base_model(input_ids=ids).last_hidden_state[0]
    logps = made.lm_head(hidden).log_softmax(-1)
    places = torch.arange(len(before), ids.shape[1])
    head = getattr(made, "reward_head", None)
    return logps[places - 1, ids[0, places]].sum(), len(after), None if head is None else (head.weight[0] * hidden[-1]).sum()


def places(dataset: Dataset) -> tuple[Tensor, dict[str, Tensor]]:
    """Where each row stands in a table: its prompt, and its response by side."""
    prompts, responses = prompt_texts(LANGUAGE), response_texts(LANGUAGE, LANGUAGE.responses())
    prompt = torch.tensor([prompts.index(text) for text in dataset["prompt"]])
    return prompt, {side: torch.tensor([responses.index(text) for text in dataset[side]]) for side in SIDES}


def rewards(members: int = 1, seed: int = 5) -> np.ndarray:
    """Made-up rewards of all responses, shape (k, X, V)."""
    return np.random.default_rng(seed).normal(size=(members, LANGUAGE.prompts, LANGUAGE.vocab))


def data(n: int = 24, *, reference: Table | None = None, members: int = 0, seed: int = 0) -> Dataset:
    """Tokenised comparisons with the scores of a reference's table and of an ensemble's."""
    dataset = preference_dataset(LANGUAGE, n, seed)
    prompt, response = places(dataset)
    for side in SIDES:
        if reference is not None:
            column = reference.logp.detach()[prompt, response[side]].tolist()
            dataset = dataset.add_column(f"ref_{side}_logps", column)
        if members:
            values = rewards(members)[:, prompt, response[side]].T
            dataset = dataset.add_column(f"reward_{side}", (values[:, 0] if members == 1 else values).tolist())
    return tokenise(dataset, TOKENIZER, 16)


def pair_of(dataset: Dataset, policy: Table, reference: Table | None = None, members: int = 0, *, mean: bool = False) -> Pair:
    """The rows as an objective sees them, from tables alone, float64."""
    prompt, response = places(dataset)
    given: dict[str, Tensor] = {}
    for side in SIDES:
        at = prompt, response[side]
        size = policy.length[at]
        scale = size if mean else 1
        given |= {f"logp_{side}": policy.logp[at] / scale, f"length_{side}": size}
        if reference is not None:
            given[f"ref_logp_{side}"] = reference.logp.detach()[at] / scale
        if policy.reward is not None:
            given[f"student_reward_{side}"] = policy.reward[at]
        if members:
            values = torch.from_numpy(rewards(members))[:, prompt, response[side]]
            given[f"reward_{side}"] = values[0] if members == 1 else values
    return Pair(**given)


def arguments(out: Path, **changes: Any) -> DPOConfig:
    """TRL's arguments of a short run without noise."""
    settings: dict[str, Any] = {
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "per_device_train_batch_size": 4,
        "max_steps": 3,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_length": 16,
    }
    return DPOConfig(output_dir=str(out), **{**settings, **changes})


def trainer(
    objective: Objective | str,
    out: Path,
    dataset: Dataset,
    policy: Any,
    *,
    values: dict[str, float] | None = None,
    anneal: bool = False,
    treatment: dict[str, Any] | None = None,
    rest: dict[str, Any] | None = None,
    **changes: Any,
) -> PreferenceTrainer:
    """Our trainer of an objective."""
    known = objectives.get(objective) if isinstance(objective, str) else objective
    schedule = Schedule.of(known, values or {}, anneal=anneal)
    return PreferenceTrainer(
        treatment=Treatment(known, schedule, **(treatment or {})),
        model=policy,
        args=arguments(out, **changes),
        train_dataset=dataset,
        processing_class=TOKENIZER,
        **(rest or {}),
    )


def batch(made: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as the trainer's model sees them."""
    return made._prepare_inputs(made.data_collator(rows))


def losses(made: Any) -> list[float]:
    """The logged loss of every step."""
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]

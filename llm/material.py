"""What a run is made from: a model's name, and preferences with the tokens and scores that its objective reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from llm.config import Config
from llm.data.load import load_demonstrations, load_preferences
from llm.data.scores import LOGPS, REWARDS, check_scores
from llm.data.tokens import tokenise
from llm.folder import SCORES
from llm.scoring.cache import join
from llm.scoring.job import Job
from llm.scoring.score import score
from llm.trainers.preference import Treatment
from llm.trainers.schedule import Schedule
from theory.errors import UserError

Say = Callable[[str], None]


@dataclass
class Material:
    """What a run is made from.

    Attributes:
        model: folder or hub id of the policy at its start, which is the reference too.
        dataset: preferences with the scores that are there already.
        evaluation: held-out preferences, or None.
        defaults: training arguments that suit it.
    """

    model: str
    dataset: Dataset
    evaluation: Dataset | None
    defaults: dict[str, Any]


def material_of(config: Config) -> Material:
    """The model and data that a configuration names; raises `UserError`."""
    model = config.model.get("model_name_or_path")
    if not model:
        raise UserError("--model-name-or-path", None, "name the model to start from: a folder or a hub id")
    run = config.run
    assert run.data is not None
    dataset = _read(config, run.data, split=run.data_split)
    held_out = None if run.eval_data is None else _read(config, run.eval_data)
    return Material(model, dataset, held_out, {})


def _read(config: Config, source: str, **options: Any) -> Dataset:
    """Preferences; or demonstrations, on both sides, for an objective that reads no rejected response."""
    if config.objective.reads_rejected:
        return load_preferences(source, adapter=config.run.adapter, **options)
    found = load_demonstrations(source, adapter=config.run.adapter, **options)
    return found.add_column("rejected", found["completion"][:]).rename_column("completion", "chosen")


def treatment_of(config: Config) -> Treatment:
    """How the objective is applied, without fresh samples; raises `UserError`."""
    schedule = Schedule.of(config.objective, config.hyper, anneal=config.run.anneal)
    return Treatment(config.objective, schedule, config.run.gamma, config.run.logp)


def trusted(config: Config) -> bool:
    """Whether a model's own code may run."""
    return bool(config.training.get("trust_remote_code", False))


@dataclass(frozen=True)
class Preparation:
    """How preferences become what a trainer reads.

    Attributes:
        out: the output directory; scores that have to be made go there.
        say: told what is being done.
    """

    config: Config
    model: str
    tokenizer: PreTrainedTokenizerBase
    max_length: int | None
    out: Path
    say: Say

    def ready(self, dataset: Dataset, part: str, files: list[str]) -> Dataset:
        """A data set with the tokens and scores that the objective reads; raises `UserError` where scores are missing or unfit.

        Args:
            part: ``train`` or ``eval``, in the names of the files that are made.
            files: of ``llm score``.
        """
        dataset = join(dataset, *files, tokenizer=self.tokenizer, max_length=self.max_length)
        reads_reference, reads_reward = _reads(self.config)
        if reads_reward:  # before anything is computed
            _check_rewards(self.config, dataset)
        if reads_reference and LOGPS[0] not in dataset.column_names:
            dataset = self._with_reference(dataset, part)
        if reads_reference:
            check_scores(dataset, LOGPS)
        if "prompt_ids" in dataset.column_names:  # the known-target world's, by lookup
            return dataset
        self.say("tokens")
        return tokenise(dataset, self.tokenizer, self.max_length)

    def _with_reference(self, dataset: Dataset, part: str) -> Dataset:
        """The data with the log-probabilities of the model at its start; processes share the work."""
        self.say("reference log-probabilities")
        made = self.out / SCORES / f"{part}-reference.parquet"
        job = Job(
            kind="reference",
            models=(self.model,),
            max_length=self.max_length,
            dtype=self.config.model.get("dtype") or "float32",
            trust_remote_code=trusted(self.config),
            chat_template=self.config.run.chat_template,
        )
        made.parent.mkdir(parents=True, exist_ok=True)
        score(dataset, job, made)
        return join(dataset, made, tokenizer=self.tokenizer, max_length=self.max_length)


def _reads(config: Config) -> tuple[bool, bool]:
    """Whether a run reads the reference's log-probabilities, and rewards, of the data's responses."""
    objective, terms = config.objective, treatment_of(config).coefficients
    offline = float(terms.kl) != 0 and config.run.kl == "offline"
    return objective.reads("ref_logp") or float(terms.forward_kl) != 0 or offline, objective.reads("reward")


def _check_rewards(config: Config, dataset: Dataset) -> None:
    objective = config.objective
    if REWARDS[0] not in dataset.column_names:
        remedy = f"{objective.name} distils a reward: make its scores with llm score --kind reward, and give the file"
        raise UserError("--scores", None, remedy)
    size = check_scores(dataset, REWARDS)
    if size != objective.ensemble:
        remedy = (
            f"{objective.name} reads {objective.ensemble} rewards a response; the data have {size}: score with as many models"
        )
        raise UserError("--scores", None, remedy)

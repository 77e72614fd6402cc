"""One training run of a study: data, table, transformer, and the exact distance of both to the target."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import DPOConfig

from llm.config import flag
from llm.consistency import table
from llm.consistency.data import Comparisons, Pairs
from llm.consistency.study import DEFAULTS, Cell
from llm.consistency.trainer import ExactKL, WorldTrainer, all_sequences
from llm.models.load import load_policy, load_tokenizer
from llm.run import refused
from llm.trainers.preference import Treatment
from llm.trainers.schedule import Schedule
from llm.world.exact import all_logps, report
from theory.instances.tabular import Array
from theory.sweeps.plan import configuration

VERSIONS = ("prefproof", "torch", "transformers", "trl")

Row = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start.

    Attributes:
        comparisons: its data.
        fitted: the table on them.
        tokenizer, model: where training starts, and what it changes.
        start: log π of the model as it is now, shape (X, V), nats.
        trainer: trains it.
    """

    comparisons: Comparisons
    fitted: table.TableFit
    tokenizer: PreTrainedTokenizerBase
    model: Any
    start: Array
    trainer: WorldTrainer


def prepare(cell: Cell, reference: str, out: str, trainer: type[WorldTrainer] = WorldTrainer) -> Prepared:
    """The data, the table and the trainer of a cell that starts from the reference in a folder."""
    language, objective = cell.study.language, cell.method.objective
    comparisons = Comparisons.draw(language, cell.n, cell.seed)
    fitted = table.fit(language, cell.fixed, comparisons.counts, cell.seed)
    tokenizer = load_tokenizer(reference)
    model = load_policy(reference, reward_head=objective.reads("student_reward"), head_seed=cell.seed)
    start = all_logps(model, tokenizer, language)
    sequences = all_sequences(tokenizer, language)
    pairs = Pairs(comparisons, sequences, _scores(start, fitted.rewards))
    kl = ExactKL(sequences, start, comparisons.shares)
    treatment = dataclasses.replace(treatment_of(cell), online_kl=kl)
    made = trainer(pairs, treatment, model, arguments(cell, out), tokenizer)
    return Prepared(comparisons, fitted, tokenizer, model, start, made)


def train(cell: Cell, reference: str) -> Row:
    """Train a transformer from the reference in a folder, fit the table, measure both; the run's row."""
    started = time.monotonic()
    language = cell.study.language
    with tempfile.TemporaryDirectory() as out:
        run = prepare(cell, reference, out)
        run.trainer.train()
    loss, gradient = run.trainer.whole()
    after = report(language, all_logps(run.model, run.tokenizer, language))
    measured = {name: getattr(after, name) for name in ("forward_kl", "reverse_kl", "total_variation", "off_language_mass")}
    return {
        **described(cell),
        "comparisons": len(run.comparisons),
        **measured,
        "forward_kl_before": report(language, run.start).forward_kl,
        "table_forward_kl": run.fitted.forward_kl,
        "table_finite": run.fitted.finite,
        "floor": cell.limit.floor,
        "loss": loss,
        "gradient_norm": gradient,
        "steps": run.trainer.state.global_step,
        "seconds": time.monotonic() - started,
        **made_by(cell),
    }


def treatment_of(cell: Cell) -> Treatment:
    """How the objective is applied, without its KL's estimate; raises `UserError`."""
    objective, gamma = cell.method.objective, cell.study.language.gamma
    return Treatment(objective, Schedule.of(objective, cell.limit.hyper), gamma, cell.method.logp)


def arguments(cell: Cell, out: str) -> DPOConfig:
    """TRL's arguments; raises `UserError` where TRL refuses them."""
    every = cell.study.arguments(cell.method)
    # Each that was given by itself first, to name the one that is unfit.
    for key, value in cell.study.training.items():
        _arguments(flag(key), value, {**DEFAULTS, key: value}, out)
    return _arguments("--methods", cell.method.objective.name, {**every, "seed": cell.seed}, out)


def _arguments(option: str, value: Any, given: dict[str, Any], out: str) -> DPOConfig:
    with refused(option, value):
        return DPOConfig(output_dir=out, **given)


def _scores(reference: Array, rewards: Array | None) -> dict[str, Array]:
    found = {"ref_{}_logps": reference}
    if rewards is not None:
        found["reward_{}"] = rewards[0] if len(rewards) == 1 else rewards
    return found


def described(cell: Cell) -> Row:
    """What the run was: its configuration in JSON's types."""
    language, method = cell.study.language, cell.method
    shown = configuration(cell.fixed.settings(language, cell.seed))
    return {
        "method": method.objective.name,
        "n": cell.n,
        "seed": cell.seed,
        "hyperparameters": json.dumps(cell.limit.hyper),
        "beta_rule": method.rule if method.objective.tuned else "fixed",
        "logp": method.logp,
        "reward": method.oracle if method.objective.reads("reward") else "none",
        "ridge": shown["ridge"],
        "source": shown.get("source"),
        "world": language.name,
        "language": language.fingerprint,
        **{name: getattr(language, name) for name in ("tokens", "length", "prompts", "order", "gamma")},
    }


def made_by(cell: Cell) -> Row:
    """How the run was trained, and by which versions, as JSON."""
    return {
        "training": json.dumps(cell.study.arguments(cell.method), default=str),
        "fitting": json.dumps(dataclasses.asdict(cell.study.fitting)),
        "versions": json.dumps({name: version(name) for name in VERSIONS}),
    }

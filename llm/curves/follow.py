"""One training run with exact measures at several of its steps."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from transformers import TrainerCallback

from llm.consistency.cell import Row, described, made_by, prepare
from llm.consistency.study import Cell
from llm.consistency.trainer import WorldTrainer
from llm.curves.measures import Judge
from llm.models.logps import sequence_logps
from theory.instances.tabular import Array

# As a sampler would, the last step's policy is also measured at these temperatures.
TEMPERATURES = (0.3, 0.5, 0.7, 0.9)
# The column ``policy`` of rows of training; those of `Judge.known` have the policy's name.
TRAINED = "trained"


class FollowedTrainer(WorldTrainer):
    """`WorldTrainer` that can be asked for its policy's whole table on the way."""

    def table(self) -> tuple[Array, Array]:
        """log π and r̂ of every response, in the order of `all_sequences`, shape (X·V,) each, nats.

        r̂ is the reward head's, or what a log-probability stands for by the objective's own rule.
        """
        model: Any = self.model
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                logps, lengths, rewards, outputs = sequence_logps(model, self.pairs.sequences)
                scores = {f"ref_{side}_logps": self.pairs.tables["ref_{}_logps"] for side in ("chosen", "rejected")}
                # Every response stands on both sides, as batches have them.
                head = None if rewards is None else rewards.repeat(2)
                pair = self._pair(logps.repeat(2), lengths.repeat(2), head, scores)
                reward = self._reward(pair, "chosen", self.treatment.schedule.at(self._progress))
        finally:
            model.train(training)
        return outputs.log_probs.double().sum(1).numpy(), reward.double().numpy()

    @contextmanager
    def cooled(self, temperature: float) -> Iterator[None]:
        """The model with its logits divided by a temperature, for as long as the context lasts."""
        model: Any = self.model
        weight = model.get_output_embeddings().weight
        before = weight.detach().clone()
        with torch.no_grad():
            weight.div_(temperature)
        try:
            yield
        finally:
            with torch.no_grad():
                weight.copy_(before)


@dataclass
class Follow(TrainerCallback):
    """Measures at step 0, at steps that lie evenly in their logarithm, and at the last one.

    Attributes:
        trainer: whose policy.
        judge: measures it.
        points: steps after the first; fewer where rounding makes them the same.
        rows: what was measured, in the order of the steps.
    """

    trainer: FollowedTrainer
    judge: Judge
    points: int
    rows: list[Row] = field(default_factory=list)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps = moments(state.max_steps, self.points)
        self._note(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step in self.steps:
            self._note(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for temperature in TEMPERATURES:
            with self.trainer.cooled(temperature):
                self._note(state.global_step, temperature)

    def _note(self, step: int, temperature: float = 1.0) -> None:
        shape = (self.judge.language.prompts, self.judge.language.vocab)
        found = self.judge.measure(*(table.reshape(shape) for table in self.trainer.table()))
        self.rows.append({"policy": TRAINED, "step": step, "temperature": temperature, **dataclasses.asdict(found)})


def moments(last: int, points: int) -> list[int]:
    """Up to ``points`` steps from 1 to the last one, evenly in their logarithm."""
    return np.unique(np.geomspace(1, last, points).round().astype(int)).tolist() if points > 1 else [last]


def follow(cell: Cell, reference: str, points: int) -> list[Row]:
    """Train a transformer from the reference in a folder and measure it on the way.

    Returns:
        A row a measured step, a row a temperature at the last step, and a row for each policy that needs no training.
    """
    judge = Judge(cell.study.language)
    with tempfile.TemporaryDirectory() as out:
        run = prepare(cell, reference, out, FollowedTrainer)
        callback = Follow(cast(FollowedTrainer, run.trainer), judge, points)
        run.trainer.add_callback(callback)
        run.trainer.train()
    measured = [*callback.rows, *_known(judge, run.trainer.state.global_step)]
    return [{**described(cell), "comparisons": len(run.comparisons), **row, **made_by(cell)} for row in measured]


def _known(judge: Judge, step: int) -> list[Row]:
    """Rows of the target, the reference and the winners, with log π as the reward."""
    found = {name: judge.measure(logp, logp) for name, logp in judge.known().items()}
    return [{"policy": name, "step": step, "temperature": 1.0, **dataclasses.asdict(m)} for name, m in found.items()]

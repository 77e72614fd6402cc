"""The trainer of every objective on a fixed preference set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from torch import Tensor
from trl import DPOTrainer
from trl.trainer.utils import add_fused_lm_head

from llm.models.logps import sequence_logps
from llm.trainers.collator import SCORES, PairCollator
from llm.trainers.functionals import forward_kl_of_data, reverse_kl_of_data
from llm.trainers.monitors import Monitor
from llm.trainers.schedule import Schedule
from theory.errors import UserError
from theory.objectives import MissingInput, Objective, Pair, Terms

SIDES = ("chosen", "rejected")
# Fields of TRL's fused head that are read here; each costs a little on every step.
OUTPUTS = ("log_probs", "entropy")
# Estimates KL(π‖π_ref) of a model on the prompts of a batch, with its gradient.
OnlineKL = Callable[[torch.nn.Module, dict[str, Any]], Tensor]


@dataclass(frozen=True)
class Treatment:
    """How an objective is applied to a model.

    Attributes:
        objective: any `Objective`: its function is the loss.
        schedule: its hyperparameters over the run.
        gamma: γ of the preference model.
        logp: ``sum`` of the tokens' log-probabilities, as on the table, or their ``mean``.
        online_kl: estimates KL(π‖π_ref) on fresh samples; None estimates it on the data.
    """

    objective: Objective
    schedule: Schedule
    gamma: float = 1.0
    logp: str = "sum"
    online_kl: OnlineKL | None = None

    def __post_init__(self) -> None:
        if self.logp not in ("sum", "mean"):
            raise UserError("--logp", self.logp, "must be sum or mean")
        if self.logp == "mean" and self.objective.reads("length"):
            raise UserError("--logp", "mean", f"{self.objective.name} divides by the length itself: use sum")
        terms = self.coefficients
        if float(terms.reward) or float(terms.entropy):
            name = self.objective.name
            raise UserError("METHOD", name, "maximises a reward on samples of its own, which no trainer here does yet")

    @cached_property
    def coefficients(self) -> Terms:
        """The weights of the policy functionals (at the end of a schedule)."""
        return self.objective.coefficients(gamma=self.gamma, **self.schedule.at(1.0))

    @cached_property
    def one_sided(self) -> bool:
        """Whether training needs no rejected response: neither the loss nor a policy functional reads it."""
        terms = self.coefficients
        return not (self.objective.reads_rejected or float(terms.kl) or float(terms.forward_kl))


class PreferenceTrainer(DPOTrainer):
    """TRL's DPO trainer whose loss is ``treatment.objective`` on the batch's pairs.

    Data come tokenised (`llm.data.tokens.tokenise`) and scored (columns of `llm score`): no reference
    and no oracle is held in memory, except a reference where fresh samples have to be scored.

    An ensemble's least member (e-DPO's min over i of E_D) is chosen in every micro-batch of every process: that is the
    batch's own least member only where a step is one micro-batch on one process. Elsewhere the loss is smaller than
    the batch's, E[min] ≤ min E; larger micro-batches bring it nearer.
    """

    _tag_names = ("prefproof",)  # type: ignore[assignment]

    def __init__(
        self, *, treatment: Treatment, model: Any, args: Any, train_dataset: Dataset, processing_class: Any, **rest: Any
    ):
        self.treatment = treatment
        self.monitor = Monitor()
        # TRL then loads no reference model of its own; the columns are there already.
        args.precompute_ref_log_probs = True
        multiple = args.pad_to_multiple_of
        collator = PairCollator(processing_class.pad_token_id, args.max_length, pad_to_multiple_of=multiple)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            data_collator=collator,
            **rest,
        )
        # Without the metrics of the logits that TRL computes for its own logs.
        policy: Any = self.model
        add_fused_lm_head(policy.get_base_model() if is_peft_model(policy) else policy, outputs=OUTPUTS)

    @property
    def least_over(self) -> str | None:
        """Over which pairs an ensemble's least member is chosen, in words; None without an ensemble."""
        if self.treatment.objective.ensemble == 1:
            return None
        pairs, parts = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps * self.args.world_size
        if parts == 1:
            return f"each batch of {pairs} pairs"
        return f"each micro-batch of {pairs} pairs, {parts} a step; only one micro-batch a step is exact"

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: list[str] = [*(self._signature_columns or []), *SCORES]
        self._signature_columns = list(dict.fromkeys(columns))  # type: ignore[assignment]

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        batch = {name: value for name, value in inputs.items() if name not in SCORES}
        if self._one_sided:
            batch = {name: value.chunk(2)[0] for name, value in batch.items()}
        scores = {name: inputs[name] for name in SCORES if name in inputs}
        logps, lengths, rewards, outputs = sequence_logps(model, batch)
        pair = self._pair(logps, lengths, rewards, scores)
        objective, treatment = self.treatment.objective, self.treatment
        hyper = treatment.schedule.at(self._progress)
        try:
            terms = objective.terms(pair, gamma=treatment.gamma, **hyper)
        except MissingInput as missing:
            raise UserError("--scores", None, f"{missing} to {objective.name}: compute it with llm score") from missing
        loss = logps.new_zeros(()) if terms.loss is None else objective.reduce(terms.loss)
        loss = loss + self._functionals(terms, pair, model, inputs)
        self._record(pair, hyper, outputs, batch)
        return (loss, outputs) if return_outputs else loss

    @property
    def _progress(self) -> float:
        return min(1.0, self.state.global_step / max(1, self.state.max_steps))

    def _pair(self, logps: Tensor, lengths: Tensor, rewards: Tensor | None, scores: dict[str, Tensor]) -> Pair:
        """The batch as an objective sees it: sums (or means) of log-probabilities, in float32 at least."""
        size = lengths.to(logps.dtype)
        scale = size if self.treatment.logp == "mean" else torch.ones_like(size)
        lines = {"logp": logps / scale, "length": size, "scale": scale}
        if rewards is not None:
            lines["student_reward"] = rewards
        sides = SIDES[:1] if self._one_sided else SIDES
        given: dict[str, Tensor] = {}
        for place, side in enumerate(sides):
            mine = {name: value.chunk(len(sides))[place] for name, value in lines.items()}
            one = mine.pop("scale")
            given |= {f"{name}_{side}": value for name, value in mine.items()}
            if f"ref_{side}_logps" in scores:
                given[f"ref_logp_{side}"] = scores[f"ref_{side}_logps"].to(logps.dtype) / one
            if f"reward_{side}" in scores:
                given[f"reward_{side}"] = scores[f"reward_{side}"].to(logps.dtype)
        return Pair(**given)

    def _functionals(self, terms: Terms, pair: Pair, model: Any, inputs: dict[str, Any]) -> Tensor | float:
        """The policy functionals with a weight, on fresh samples or on the data."""
        total: Tensor | float = 0.0
        if float(terms.kl):
            if self.treatment.online_kl is not None:
                divergence = self.treatment.online_kl(model, inputs)
            else:
                divergence = reverse_kl_of_data(*self._sums(pair))
            self._note("kl", divergence)
            total = total + terms.kl * divergence
        if float(terms.forward_kl):
            divergence = forward_kl_of_data(*self._sums(pair))
            self._note("forward_kl", divergence)
            total = total + terms.forward_kl * divergence
        return total

    def _sums(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """log π and log π_ref of all whole responses of a batch, shape (2B,) each, whatever the loss reads."""
        logps, ref_logps = (
            torch.cat([getattr(pair, f"{name}_chosen"), getattr(pair, f"{name}_rejected")]) for name in ("logp", "ref_logp")
        )
        size = torch.cat([pair.length_chosen, pair.length_rejected]) if self.treatment.logp == "mean" else 1
        return logps * size, ref_logps * size

    def _note(self, name: str, value: Tensor) -> None:
        self._metrics[self._mode][name].append(self.accelerator.gather(value.detach()).mean().item())

    @property
    def _one_sided(self) -> bool:
        """Whether this batch's rejected responses are passed by: for evaluation they are read."""
        return self._mode == "train" and self.treatment.one_sided

    @property
    def _mode(self) -> str:
        assert self.model is not None
        return "train" if self.model.training else "eval"

    def _record(self, pair: Pair, hyper: dict[str, float], outputs: Any, batch: dict[str, Any]) -> None:
        """Log what TRL's own DPO logs, and the monitors."""
        fixed = ("reward_chosen", "reward_rejected")
        every = Pair(**{name: self.accelerator.gather(v.detach()) for name, v in pair.given().items() if name not in fixed})
        logps, ref = _by_side(every, "logp"), _by_side(every, "ref_logp")
        rewards = {side: self._reward(every, side, hyper) for side in logps}
        found = self.monitor.metrics(logps, ref, rewards)
        mask = batch["completion_mask"][:, 1:]
        entropy = (outputs.entropy[:, -mask.shape[1] :].detach() * mask).sum(), mask.sum()
        total, tokens = (self.accelerator.gather(part.reshape(1).float()).sum() for part in entropy)
        found["entropy"] = float(total / tokens.clamp_min(1))
        for name, value in found.items():
            self._metrics[self._mode][name].append(value)
        if self._mode == "train":
            self._total_train_tokens += int(self.accelerator.gather(batch["attention_mask"].sum().reshape(1)).sum())
        self._metrics[self._mode]["num_tokens"] = [self._total_train_tokens]

    def _reward(self, pair: Pair, side: str, hyper: dict[str, float]) -> Tensor:
        """A response's reward: the head's if there is one, else what its log-probability stands for by the objective's own rule.

        Without a rule that is the log-ratio, or log π where there is no reference.
        """
        given = pair.given()
        if f"student_reward_{side}" in given:
            return given[f"student_reward_{side}"]
        objective, logp = self.treatment.objective, given[f"logp_{side}"]
        reference = given.get(f"ref_logp_{side}", torch.zeros_like(logp))
        if objective.reads("length"):
            logp, reference = (value / given[f"length_{side}"] for value in (logp, reference))
        rule = objective.implicit_reward
        return logp - reference if rule is None else rule(logp, reference, gamma=self.treatment.gamma, **hyper)


def _by_side(pair: Pair, quantity: str) -> dict[str, Tensor]:
    """What is known of a quantity, by side."""
    given = pair.given()
    return {side: given[f"{quantity}_{side}"] for side in SIDES if f"{quantity}_{side}" in given}

"""The exact side: the same objective on the same comparisons, on an unrestricted table of the language's responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm.world import exact
from theory import simulation
from theory.errors import UserError
from theory.instances.language import Language
from theory.instances.tabular import Array
from theory.objectives import Objective
from theory.sampling import WinCounts, is_dense, population
from theory.simulation import Outcome, Settings
from theory.solvers.options import Options

RULES = ("auto", "best")
# The value of ``auto`` for a hyperparameter that cannot be 0: at γ = 1 the scale of the true reward for DPO's β.
UNIT = 1.0


@dataclass(frozen=True)
class Method:
    """An objective with what a user said of it.

    Attributes:
        objective: any that has a pair loss.
        values: hyperparameters that were given.
        rule: for the tuned hyperparameter, if it was not given: ``auto`` is 0 where that is allowed (no regulariser) and
            1 elsewhere; ``best`` has the least forward KL in the population.
        logp: ``sum`` or ``mean`` of the tokens' log-probabilities.
        oracle: ``learned`` (the Bradley–Terry table of the same comparisons) or ``true`` reward, where one is distilled.
    """

    objective: Objective
    values: dict[str, float]
    rule: str = "auto"
    logp: str = "sum"
    oracle: str = "learned"

    def settings(self, language: Language, seed: int = 0) -> Settings:
        """How the table is fitted; ``seed`` is that of an ensemble's bootstraps."""
        objective = exact.on_table(self.objective, language, self.logp)
        rule = "best" if self.rule == "best" else "fixed"
        return Settings(objective, self._values(), rule, Options(oracle=self.oracle, seed=seed))

    def _values(self) -> dict[str, float]:
        tuned = self.objective.tuned
        if self.rule != "auto" or tuned is None or tuned.name in self.values:
            return dict(self.values)
        zero = tuned.about.low <= 0 and not (tuned.about.low == 0 and tuned.about.open_low)
        return {**self.values, tuned.name: 0.0 if zero else UNIT}


def require_table(language: Language) -> None:
    """Raise `UserError` for a language whose table of pairs is too large to hold."""
    if not (language.enumerable and is_dense(language.vocab, language.prompts)):
        remedy = f"gives {language.vocab} responses to each of {language.prompts} prompts; the exact table holds at most 1000"
        raise UserError("--length", language.length, remedy)


def limit(language: Language, method: Method) -> tuple[dict[str, float], float]:
    """Every hyperparameter of a method, and its floor: the forward KL of its minimiser at n = ∞, nats."""
    whole = population(language.instance())
    # Training leaves draws of a response with itself out, and so the weight of the other terms is that much smaller.
    data = WinCounts(whole.wins, whole.wins.sum((-1, -2)), whole.n)
    outcome, _ = _solve(language, method.settings(language), data)
    return {name: float(value[0]) for name, value in outcome.hyper.items()}, float(outcome.forward_kl[0])


@dataclass(frozen=True)
class TableFit:
    """A method fitted to comparisons on a table.

    Attributes:
        forward_kl: KL(π*‖π̂), nats; the ridge keeps it finite where the data do not.
        finite: whether there is a finite minimiser without the ridge; None if that is not decided.
        rewards: what the method distils, shape (k, X, V), nats; None if it distils nothing.
    """

    forward_kl: float
    finite: bool | None
    rewards: Array | None


def fit(language: Language, method: Method, data: WinCounts, seed: int) -> TableFit:
    """Fit a method to one data set's win counts."""
    outcome, rewards = _solve(language, method.settings(language, seed), data)
    finite = None if outcome.undecided[0] else bool(outcome.finite[0])
    return TableFit(float(outcome.forward_kl[0]), finite, rewards)


def _solve(language: Language, settings: Settings, data: WinCounts) -> tuple[Outcome, Array | None]:
    instance = language.instance()
    task = simulation.make_task(instance, data, settings)
    outcome = simulation.solve(instance, task, settings)
    found = [reward[0].numpy() for reward in task.rewards(settings.objective) if reward is not None]
    return outcome, np.stack(found) if found else None

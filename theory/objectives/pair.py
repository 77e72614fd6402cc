"""What an objective sees (`Pair`) and what it says (`Terms`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

_SIDES = ("chosen", "rejected")
_QUANTITIES = ("logp", "ref_logp", "reward", "student_reward", "length")


class MissingInput(AttributeError):
    """An objective asked for an input that the caller did not provide."""


class Pair:
    """A pair of responses, one preferred, as tensors of any mutually broadcastable shape.

    The same class carries a batch of sequence log-probabilities, shape ``(batch,)``, and a table
    of pairs, shape ``(seeds, contexts, V, V)`` with the chosen response on axis −2 and the
    rejected one on axis −1. Objectives are elementwise, so the shape never matters to them.

    Attributes (each a ``Tensor``; log-probabilities and rewards in nats):
        logp_chosen, logp_rejected: log π(y_w|x), log π(y_l|x) of the policy that is trained.
        ref_logp_chosen, ref_logp_rejected: the same of the reference policy (for REBEL, of the
            policy π_t that sampled the pair).
        reward_chosen, reward_rejected: a fixed reward r̂ (learned or true); an ensemble adds a
            leading axis.
        student_reward_chosen, student_reward_rejected: the reward head that is trained.
        length_chosen, length_rejected: response lengths in tokens (1 on a table).

    Raises:
        MissingInput: an attribute was read that was not given.
        TypeError: an unknown attribute was given.
    """

    FIELDS = tuple(f"{quantity}_{side}" for quantity in _QUANTITIES for side in _SIDES)

    logp_chosen: Tensor
    logp_rejected: Tensor
    ref_logp_chosen: Tensor
    ref_logp_rejected: Tensor
    reward_chosen: Tensor
    reward_rejected: Tensor
    student_reward_chosen: Tensor
    student_reward_rejected: Tensor
    length_chosen: Tensor
    length_rejected: Tensor

    def __init__(self, **inputs: Tensor):
        unknown = set(inputs) - set(self.FIELDS)
        if unknown:
            raise TypeError(f"Pair has no {', '.join(sorted(unknown))}; it has {', '.join(self.FIELDS)}")
        self.__dict__.update(inputs)

    def __getattr__(self, name: str) -> Tensor:
        if name in self.FIELDS:
            raise MissingInput(f"the objective needs {name}, which was not given")
        margin = getattr(type(self), name, None)
        if isinstance(margin, property):  # its MissingInput brought us here; raise that one again
            return margin.__get__(self)
        raise AttributeError(f"Pair has no {name}; it has {', '.join(self.FIELDS)}")

    @property
    def logp_margin(self) -> Tensor:
        """Δlogπ = log π(y_w) − log π(y_l)."""
        return self.logp_chosen - self.logp_rejected

    @property
    def ref_margin(self) -> Tensor:
        """Δlogπ_ref."""
        return self.ref_logp_chosen - self.ref_logp_rejected

    @property
    def logratio_margin(self) -> Tensor:
        """Δlogπ − Δlogπ_ref, the margin of the log-ratios log π/π_ref."""
        return self.logp_margin - self.ref_margin

    @property
    def reward_margin(self) -> Tensor:
        """Δr̂ of the fixed reward."""
        return self.reward_chosen - self.reward_rejected

    @property
    def student_margin(self) -> Tensor:
        """Δr̂_θ of the reward head that is trained."""
        return self.student_reward_chosen - self.student_reward_rejected

    def given(self) -> dict[str, Tensor]:
        """The inputs that were given."""
        return {name: value for name, value in self.__dict__.items() if name in self.FIELDS}

    def replace(self, **inputs: Tensor) -> Pair:
        """The same pair with some inputs exchanged or added."""
        return Pair(**{**self.given(), **inputs})

    def swapped(self) -> Pair:
        """The pair with the label turned round."""
        flip = dict(zip(_SIDES, reversed(_SIDES), strict=True))
        return Pair(**{f"{n.rpartition('_')[0]}_{flip[n.rpartition('_')[2]]}": v for n, v in self.given().items()})

    def map(self, function: Callable[[Tensor], Tensor]) -> Pair:
        """Every input passed through ``function`` (a cast, a move, a reshape)."""
        return Pair(**{name: function(value) for name, value in self.given().items()})


@dataclass(frozen=True)
class Terms:
    """An objective in the general form that all of them share; it is minimised.

    L(π) = E_D[loss] − reward·E_{y~π}[r(y)] − entropy·H(π) + kl·KL(π‖π_ref)
           + forward_kl·KL(π_ref‖π)

    ``loss`` is unreduced (one number a pair) or None for a purely on-policy objective. The four
    coefficients are numbers, or tensors that broadcast as the pair does. What solves an
    objective follows from which terms are non-zero, never from its name.

    Source: the general form of the unified paper's Table 1 and the other two papers' objectives.
    """

    loss: Tensor | None = None
    reward: Any = 0.0
    entropy: Any = 0.0
    kl: Any = 0.0
    forward_kl: Any = 0.0

    @property
    def coefficients(self) -> dict[str, Any]:
        """The four coefficients by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "loss"}

"""Finite languages: autoregressive targets and references whose every response has an exact probability."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.errors import UserError
from theory.instances.random import GAMMA, REF_NOISE, log_softmax
from theory.instances.tabular import Array, Instance

Tokens = NDArray[np.int64]
Which = Literal["target", "reference"]
# What follows the last token of a response that is shorter than L.
END = -1
# A table of all responses is held up to this many of them, and this many cells over all prompts.
LARGEST_VOCAB, LARGEST_CELLS = 100_000, 10_000_000
# Our defaults: 216 responses in each of 4 prompts.
TOKENS, LENGTH, PROMPTS, ORDER = 6, 3, 4, 1


@dataclass(frozen=True, eq=False)
class Language:
    """Responses of T tokens to X prompts; target and reference are Markov chains, one for each prompt.

    log π(y|x) = Σ_t log P_x(y_t | the ``order`` tokens before it), and with ``eos`` the chain may end
    a response early: y is then any string of 1 to L tokens, + log P_x(end | …) if it has fewer than L.
    A response of L tokens ends by itself, at no cost. Prompts are equally likely, and so the language
    is a tabular `Instance` with V = T^L responses (with ``eos``, T + T² + … + T^L).

    Attributes:
        target, reference: logits of the next token, shape (X, S, T), or (X, S, T + 1) with ``eos``,
            whose last column is the end. The S = (T + 1)^order states are the tokens before, as digits
            to base T + 1, the latest last: 0 for "none yet", 1 + k for token k. An empty response is
            not part of the language, so the end's logit in state 0 is never read.
        length: L ≥ 1.
        order: of the chains, 1 or 2.
        eos: responses may end before L.
        gamma: γ > 0 of the preference model (unified eq. 2–3).
        name: where it came from, for people.

    Raises:
        UserError: a number out of range, a shape that does not fit, or a logit that is not finite.
    """

    target: Array
    reference: Array
    length: int = LENGTH
    order: int = ORDER
    eos: bool = False
    gamma: float = GAMMA
    name: str = "language"

    def __post_init__(self) -> None:
        for name in ("length", "order"):
            whole_number(name, getattr(self, name))
        if self.order > 2:
            raise UserError("order", self.order, "must be 1 or 2")
        if not (np.isfinite(self.gamma) and self.gamma > 0):
            raise UserError("gamma", self.gamma, "must be positive and finite")
        target, reference = (_logits(name, getattr(self, name)) for name in ("target", "reference"))
        tokens = target.shape[2] - self.eos
        if tokens < 2 or target.shape[1] != (tokens + 1) ** self.order:
            remedy = "must have shape (X, (T + 1)^order, T), or T + 1 columns with an end, T ≥ 2"
            raise UserError("target", f"has shape {target.shape}", remedy)
        if reference.shape != target.shape:
            raise UserError("reference", f"has shape {reference.shape}", f"must have the target's, {target.shape}")
        for name, value in (("target", target), ("reference", reference)):
            object.__setattr__(self, name, value)

    @property
    def prompts(self) -> int:
        """X, the number of prompts."""
        return self.target.shape[0]

    @property
    def tokens(self) -> int:
        """T, the number of tokens, the end not counted."""
        return self.target.shape[2] - self.eos

    @property
    def vocab(self) -> int:
        """V, the number of responses to each prompt."""
        shortest = 1 if self.eos else self.length
        return sum(self.tokens**length for length in range(shortest, self.length + 1))

    @property
    def enumerable(self) -> bool:
        """Whether a table of all responses is small enough to hold."""
        return self.vocab <= LARGEST_VOCAB and self.vocab * self.prompts <= LARGEST_CELLS

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides a probability or a preference (not the name)."""
        numbers = np.array([self.length, self.order, self.eos, *self.target.shape], dtype="<i8")
        floats = [np.ascontiguousarray(a, dtype="<f8") for a in (self.target, self.reference, self.gamma)]
        return hashlib.sha256(b"".join(part.tobytes() for part in (numbers, *floats))).hexdigest()

    def next_log_probs(self, which: Which) -> Array:
        """log P_x(next | state) of a chain, shape as the logits; the end's is −∞ in state 0."""
        logits = (self.target if which == "target" else self.reference).copy()
        if self.eos:
            logits[:, 0, -1] = -np.inf
        return log_softmax(logits)

    def states(self, tokens: Tokens) -> Tokens:
        """The state before each position; tokens of shape (…, L), END after the last; result likewise."""
        states = np.zeros_like(tokens)
        for t in range(1, tokens.shape[-1]):
            states[..., t] = self._after(states[..., t - 1], tokens[..., t - 1])
        return states

    def _after(self, state: Tokens, token: Tokens) -> Tokens:
        base = self.tokens + 1
        return state % base ** (self.order - 1) * base + token + 1

    def log_prob(self, which: Which, prompt: ArrayLike, tokens: ArrayLike) -> Array:
        """log π(y|x) of the target or the reference, nats.

        Args:
            which: ``target`` or ``reference``.
            prompt: x from 0 to X − 1, shape (…).
            tokens: y, shape (…, L), broadcast against the prompts. A shorter response has END (−1) after its last
                token; a last axis shorter than L stands for responses that all are.

        Returns:
            Shape (…).

        Raises:
            UserError: a prompt or a token out of range, or a response of the wrong length.
        """
        y, x = self._checked(tokens), np.asarray(prompt, dtype=np.int64)
        if len(wrong := x[(x < 0) | (x >= self.prompts)]):
            raise UserError("prompt", int(wrong[0]), f"must be from 0 to {self.prompts - 1}")
        table, states = self.next_log_probs(which), self.states(y)
        total = np.zeros(np.broadcast_shapes(x.shape, y.shape[:-1]))
        for t in range(self.length):
            open_before = True if t == 0 else y[..., t - 1] != END
            # Column −1 is the end, which only a language with one lets through `_checked`.
            total += np.where(open_before, table[x, states[..., t], y[..., t]], 0.0)
        return total

    def _checked(self, tokens: ArrayLike) -> Tokens:
        y = np.asarray(tokens, dtype=np.int64)
        lengths = f"1 to {self.length}" if self.eos else str(self.length)
        if y.ndim == 0 or not 1 <= y.shape[-1] <= self.length:
            raise UserError("tokens", f"of shape {y.shape}", f"a response has {lengths} tokens")
        short = np.full((*y.shape[:-1], self.length - y.shape[-1]), END)
        y = np.concatenate([y, short], axis=-1)
        if len(wrong := y[(y < END) | (y >= self.tokens)]):
            raise UserError("tokens", int(wrong[0]), f"must be from 0 to {self.tokens - 1}, or {END} after the last")
        ended = y == END
        if ended[..., 0].any() or (ended.any() and not self.eos) or (ended[..., :-1] & ~ended[..., 1:]).any():
            raise UserError("tokens", y[ended.any(-1)][0].tolist(), f"a response has {lengths} tokens")
        return y

    @cached_property
    def _responses(self) -> Tokens:
        if not self.enumerable:
            remedy = f"V = {self.vocab:.3g}, X = {self.prompts}: at most {LARGEST_VOCAB:g} responses (and {LARGEST_CELLS:g}"
            raise UserError("language", None, f"{remedy} over all prompts) are enumerated; take fewer tokens or a smaller length")
        blocks = []
        for length in range(1 if self.eos else self.length, self.length + 1):
            block = np.full((self.tokens**length, self.length), END)
            block[:, :length] = np.indices((self.tokens,) * length).reshape(length, -1).T
            blocks.append(block)
        found = np.concatenate(blocks)
        found.flags.writeable = False
        return found

    def responses(self) -> Tokens:
        """All responses, shape (V, L), the short first, then in alphabetical order; END after the last token.

        Raises:
            UserError: there are more than 1e5 of them.
        """
        return self._responses

    def log_probs(self, which: Which) -> Array:
        """log π(y|x) of every response (`responses`) to every prompt, shape (X, V), nats."""
        return self.log_prob(which, np.arange(self.prompts)[:, None], self.responses())

    def instance(self) -> Instance:
        """The same world as a table: context x, response `responses`[v], μ = π_ref.

        Raises:
            UserError: there are too many responses to enumerate.
        """
        target, reference = (np.exp(log_softmax(self.log_probs(which))) for which in ("target", "reference"))
        return Instance(target, reference, gamma=self.gamma, name=self.name)

    def sample(self, which: Which, prompt: ArrayLike, rng: np.random.Generator) -> Tokens:
        """One response to each prompt from the target or the reference; prompts (N,), result (N, L)."""
        x = np.asarray(prompt, dtype=np.int64)
        cumulative = np.exp(self.next_log_probs(which)).cumsum(-1)
        found = np.full((len(x), self.length), END)
        state, going = np.zeros(len(x), dtype=np.int64), np.ones(len(x), dtype=bool)
        for t, u in enumerate(rng.random((self.length, len(x)))):
            rows = cumulative[x, state]
            symbol = (u[:, None] * rows[:, -1:] >= rows).sum(-1)
            going &= symbol < self.tokens
            found[:, t] = np.where(going, symbol, END)
            state = self._after(state, found[:, t])
        return found


def random_language(
    seed: int = 0,
    *,
    tokens: int = TOKENS,
    length: int = LENGTH,
    prompts: int = PROMPTS,
    order: int = ORDER,
    eos: bool = False,
    gamma: float = GAMMA,
    ref_noise: float = REF_NOISE,
) -> Language:
    """A language whose next-token logits are z (target) and z + τ·ε (reference), z and ε iid N(0, 1).

    The recipe of `random_instance` (unified App. D.1) for every state of every prompt's chain.

    Args:
        seed: of the language; the same seed gives the same language on every machine.
        tokens, length, prompts: T ≥ 2, L ≥ 1, X ≥ 1.
        order: of the Markov chains, 1 or 2.
        eos: responses may end early, after at least one token.
        gamma, ref_noise: γ > 0 and τ ≥ 0.

    Raises:
        UserError: a size or scale outside its range.
    """
    for name, value, least in (("tokens", tokens, 2), ("length", length, 1), ("prompts", prompts, 1), ("order", order, 1)):
        whole_number(f"--{name}", value, least)
    if order > 2:
        raise UserError("--order", order, "must be 1 or 2")
    if not (np.isfinite(gamma) and gamma > 0):
        raise UserError("--gamma", gamma, "must be positive and finite")
    if not (np.isfinite(ref_noise) and ref_noise >= 0):
        raise UserError("--ref-noise", ref_noise, "must be zero or positive, and finite")
    shape = (prompts, (tokens + 1) ** order, tokens + eos)
    if np.prod(shape, dtype=float) > LARGEST_CELLS:
        raise UserError("--tokens", tokens, f"{prompts} chains of order {order} need more than {LARGEST_CELLS:g} numbers")
    rng = np.random.default_rng(np.random.SeedSequence(whole_number("--seed", seed, 0), spawn_key=(30,)))
    logits, noise = rng.standard_normal(shape), rng.standard_normal(shape)
    return Language(logits, logits + ref_noise * noise, length, order, eos, gamma, f"random language (seed {seed})")


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """The value as an int; raises `UserError` if it is no whole number or too small."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise UserError(name, value, f"must be a whole number, at least {least}")
    return int(value)


def _logits(name: str, values: object) -> Array:
    try:
        logits = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(name, None, "must be an array of numbers") from error
    if logits.ndim != 3 or not logits.size:
        raise UserError(name, f"has shape {logits.shape}", "must have shape (prompts, states, tokens)")
    if not np.isfinite(logits).all():
        raise UserError(name, None, "every logit must be finite")
    logits.flags.writeable = False
    return logits

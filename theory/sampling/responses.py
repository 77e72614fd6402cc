"""What is drawn from a finite language: labelled comparisons, and an estimate of the forward KL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from theory.instances.language import Language, Tokens, whole_number
from theory.instances.tabular import Array, expit
from theory.statistics.rates import Interval, mean


@dataclass(frozen=True)
class Labelled:
    """Labelled comparisons, those with y = y' left out.

    Attributes:
        prompt: x, shape (m,).
        chosen, rejected: responses as `Language` writes them, shape (m, L).
        draw: which of the n draws each one is, ascending, shape (m,).
        n: draws in all, m ≤ n.
    """

    prompt: Tokens
    chosen: Tokens
    rejected: Tokens
    draw: Tokens
    n: int


def draw_labelled(language: Language, n: int, seed: int = 0) -> Labelled:
    """Draw n labelled comparisons: x uniform, y and y' iid π_ref(·|x), label from the preference model.

    A draw y = y' carries no information: it is left out, but counts in n, as everywhere in this package.

    Args:
        language: any; its responses are not enumerated.
        n: draws. The data are a function of (language, n, seed) alone.
        seed: of the data.

    Raises:
        UserError: n < 1 or a negative seed.
    """
    rng = _generator(seed, 31, whole_number("n", n))
    x = rng.integers(language.prompts, size=n)
    first, second = (language.sample("reference", x, rng) for _ in range(2))
    margin = language.log_prob("target", x, first) - language.log_prob("target", x, second)
    won = (rng.random(n) < expit(language.gamma * margin))[:, None]
    kept = (first != second).any(1)
    chosen, rejected = np.where(won, first, second), np.where(won, second, first)
    return Labelled(x[kept], chosen[kept], rejected[kept], np.flatnonzero(kept), int(n))


def estimate_forward_kl(
    language: Language,
    log_policy: Callable[[Tokens, Tokens], Array],
    *,
    samples: int = 4096,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """An unbiased estimate of (1/X) Σ_x KL(π*‖π), nats, from responses that π* draws; any V.

    Every prompt gets the same number of responses, m = ⌈samples/X⌉; the m means of log π* − log π
    over the prompts are iid, which gives the Student-t interval.

    Args:
        language: gives π*.
        log_policy: (prompts (N,), responses (N, L)) → log π(y|x), shape (N,); π may put mass on
            what is not in the language.
        samples: responses in all; at least two for each prompt are drawn.
        seed: of the responses.
        confidence: of the interval.
    """
    each = max(2, -(-whole_number("samples", samples) // language.prompts))
    x = np.tile(np.arange(language.prompts), each)
    y = language.sample("target", x, _generator(seed, 32))
    gap = language.log_prob("target", x, y) - np.asarray(log_policy(x, y), dtype=np.float64)
    return mean(gap.reshape(each, language.prompts).mean(1), confidence=confidence)


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(whole_number("--seed", seed, 0), spawn_key=key))

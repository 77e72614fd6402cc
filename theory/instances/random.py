"""Random instances: the unified paper's toy recipe."""

from __future__ import annotations

import numpy as np

from theory.errors import UserError
from theory.instances.tabular import Array, Instance

# The paper says that V and X are equal and that the policies are close; the values are lost, and
# these are ours.
VOCAB = 10
CONTEXTS = 10
GAMMA = 1.0
REF_NOISE = 0.5


def log_softmax(logits: Array) -> Array:
    """log softmax along the last axis."""
    from scipy.special import log_softmax as scipy_log_softmax

    return scipy_log_softmax(logits, axis=-1)


def random_instance(
    seed: int = 0,
    *,
    vocab: int = VOCAB,
    contexts: int = CONTEXTS,
    gamma: float = GAMMA,
    ref_noise: float = REF_NOISE,
    features: int = 0,
    realizable: bool = False,
) -> Instance:
    """π* = softmax(z), π_ref = softmax(z + τ·ε), z and ε iid N(0, 1) (unified App. D.1).

    Args:
        seed: of the instance; the same seed gives the same instance on every machine.
        vocab, contexts: V ≥ 2 and X ≥ 1 (paper: equal; the value 10 is our default).
        gamma: γ > 0 (1 is our default).
        ref_noise: τ ≥ 0 (0.5 is our default).
        features: d of a log-linear class with features iid N(0, 1), shared by all contexts; 0 for
            none.
        realizable: draw z = φ·w with w iid N(0, 1/√d), so that the class contains the target.

    Raises:
        UserError: a size or scale outside its range.
    """
    _check_sizes(vocab, contexts, ref_noise, features)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    phi = rng.standard_normal((contexts, vocab, features)) if features else None
    logits = rng.standard_normal((contexts, vocab))
    noise = rng.standard_normal((contexts, vocab))
    if realizable:
        if phi is None:
            raise UserError("--realizable", None, "needs --features d")
        logits = phi @ rng.standard_normal(features) / np.sqrt(features)
    target, reference = (np.exp(log_softmax(z)) for z in (logits, logits + ref_noise * noise))
    return Instance(target, reference, gamma=gamma, features=phi, name=f"random (seed {seed})")


def _check_sizes(vocab: int, contexts: int, ref_noise: float, features: int) -> None:
    if vocab < 2:
        raise UserError("--vocab", vocab, "must be at least 2: one response leaves nothing to prefer")
    if contexts < 1:
        raise UserError("--contexts", contexts, "must be at least 1")
    if not (np.isfinite(ref_noise) and ref_noise >= 0):
        raise UserError("--ref-noise", ref_noise, "must be zero or positive, and finite")
    if not 0 <= features < vocab:
        raise UserError("--features", features, f"must be at least 0 and less than V = {vocab}")

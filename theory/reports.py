"""Facts about instances and outcomes as flat records, for tables and JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from theory import __version__
from theory.instances import Instance
from theory.sampling import is_dense
from theory.simulation import Outcome, Settings
from theory.statistics import coverage, divergences
from theory.statistics.efficiency import LARGEST_VOCAB, asymptotic_constant, efficiency


def describe_instance(instance: Instance) -> dict[str, Any]:
    """Sizes, how far the reference is from the target, coverage, and the Cramér–Rao constant."""
    import torch

    target, reference, weights = (
        torch.from_numpy(a) for a in (np.log(instance.target), np.log(instance.reference), instance.context_weights)
    )
    small = instance.vocab <= LARGEST_VOCAB
    return {
        "contexts": instance.contexts,
        "vocab": instance.vocab,
        "gamma": instance.gamma,
        "features": 0 if instance.features is None else instance.features.shape[-1],
        "reference_forward_kl": float(divergences.forward_kl(target, reference, weights)),
        "reference_reverse_kl": float(divergences.reverse_kl(target, reference, weights)),
        "coverage_table": coverage.coverage_table(instance) if small else math.nan,
        "coverage_log_linear": math.nan
        if instance.features is None
        else coverage.coverage_log_linear(instance, instance.features),
        "asymptotic_constant": asymptotic_constant(instance) if small else math.nan,
        "largest_log_probability_ratio": float((reference - target).abs().max()),
        "dense": is_dense(instance.vocab, instance.contexts),
    }


def describe_outcome(
    instance: Instance, settings: Settings, outcome: Outcome, seed: int, floor: float, seconds: float
) -> dict[str, Any]:
    """The record that ``theory simulate --json`` prints, for the first data set of an outcome.

    ``beta`` is the tuned hyperparameter's value whatever its name (``tuned`` has the name).
    """
    objective, tuned = settings.objective, settings.objective.tuned
    constant = asymptotic_constant(instance) if instance.vocab <= LARGEST_VOCAB else math.nan
    hyper = {name: float(value[0]) for name, value in outcome.hyper.items()}
    forward_kl = float(outcome.forward_kl[0])
    vanishing = None if outcome.vanishing is None else np.argwhere(outcome.vanishing[0]).tolist()
    return {
        "method": objective.name,
        "n": "inf" if math.isinf(outcome.n) else int(outcome.n),
        "seed": seed,
        "beta": hyper[tuned.name] if tuned else None,
        "beta_rule": settings.rule if settings.searched else "fixed",
        "tuned": tuned.name if tuned else None,
        "hyperparameters": hyper,
        "forward_kl": forward_kl,
        "reverse_kl": float(outcome.reverse_kl[0]),
        "total_variation": float(outcome.total_variation[0]),
        "floor": floor,
        "cramer_rao": constant / outcome.n,
        "asymptotic_constant": constant,
        "efficiency": efficiency(constant, outcome.n, forward_kl),
        "finite": None if outcome.undecided[0] else bool(outcome.finite[0]),
        "vanishing": vanishing,
        "gradient_norm": float(outcome.gradient_norm[0]),
        "iterations": int(outcome.iterations[0]),
        "certificate": outcome.kind,
        "starts": outcome.starts,
        "agreeing_starts": int(outcome.agreeing[0]),
        "ridge": settings.options.ridge,
        "reward_head": settings.options.reward_head,
        "oracle": settings.options.oracle,
        "policy_class": settings.policy_class,
        "reward_class": settings.reward_class,
        "vocab": instance.vocab,
        "contexts": instance.contexts,
        "gamma": instance.gamma,
        "instance": instance.name,
        "seconds": seconds,
        "version": __version__,
    }

"""How far a model is from a language's target: sums over all responses, without sampling error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from trl.trainer.utils import add_fused_lm_head

from llm.models.logps import sequence_logps
from llm.world.tokenizer import encode
from theory import simulation
from theory.instances.language import Language, Tokens
from theory.instances.tabular import Array
from theory.objectives import Objective, Pair
from theory.sampling.responses import estimate_forward_kl
from theory.solvers.options import Options
from theory.statistics import divergences
from theory.statistics.coverage import coverage_finite
from theory.statistics.rates import Interval

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 512
# Nearer to the target than this (nats), only rounding is left of the difference whose coverage is asked for.
SAME = 1e-12


@dataclass(frozen=True)
class ExactReport:
    """A model against a language's target, averaged over the prompts; nats unless stated.

    π(y|x) is the probability of y's tokens and of the end after them, as training sees it: in a language whose
    responses all have L tokens, a model may stop early or late, or emit a token that is none of the language's. That
    share is ``off_language_mass``. π* and π_ref have none, so what is measured *to* a model counts it, and what is
    measured *from* a model, which it would make infinite, is of the model given that its response is in the language.

    Attributes:
        forward_kl: KL(π*‖π).
        reverse_kl: KL(π(·|language)‖π*).
        total_variation: between π* and π, the share off the language included; a probability.
        entropy: of π(·|language).
        off_language_mass: 1 − Σ_y π(y|x), a probability; below about 1e-6 it is float32's rounding.
        kl_to_reference: KL(π(·|language)‖π_ref), with the table's π_ref.
        kl_from_reference: KL(π_ref‖π).
        coverage: E_{π*}[f̄²]/E_{π_ref}[f̄²], f = γ log π/π*, f̄ centred under π_ref (unified Definition 3 at
            the one policy π); NaN where π = π*.
        prompts, responses: X and V.
    """

    forward_kl: float
    reverse_kl: float
    total_variation: float
    entropy: float
    off_language_mass: float
    kl_to_reference: float
    kl_from_reference: float
    coverage: float
    prompts: int
    responses: int


def evaluate(model: nn.Module, tokenizer: PreTrainedTokenizerBase, language: Language, batch_size: int = BATCH) -> ExactReport:
    """Every distance between a model and a language's target, from the log-probability of every response.

    Args:
        model: a causal language model, in any mode, which it keeps; with or without TRL's fused LM head.
        tokenizer: the model's, with the language's words (`llm.world.tokenizer.make_tokenizer`).
        language: at most 1e5 responses; `estimate` has no such limit.
        batch_size: sequences in a forward pass; it changes no number beyond rounding.

    Raises:
        UserError: too many responses to enumerate, or another language's tokenizer.
    """
    return report(language, all_logps(model, tokenizer, language, batch_size))


def report(language: Language, logp: Array) -> ExactReport:
    """`ExactReport` of the policy whose log π(y|x), shape (X, V), is given (rows may sum to less than 1)."""
    policy = torch.from_numpy(np.asarray(logp, dtype=np.float64))
    target, reference = (torch.from_numpy(language.log_probs(which)) for which in ("target", "reference"))
    weights = torch.full((language.prompts,), 1 / language.prompts, dtype=torch.float64)
    log_mass = policy.logsumexp(-1, keepdim=True)
    inside = policy - log_mass  # π given that the response is in the language
    off = float((1 - log_mass.exp()).clamp_min(0).mean())
    # `kl` is Σ p·(eᵗ − 1 − t), where Σ p·eᵗ is π's mass; what π lacks of 1 is one more response that π* never gives.
    forward = float(divergences.forward_kl(target, policy, weights)) + off
    return ExactReport(
        forward_kl=forward,
        reverse_kl=float(divergences.reverse_kl(target, inside, weights)),
        total_variation=float((divergences.total_variation(target, policy) * weights).sum()) + off / 2,
        entropy=float(-(torch.xlogy(inside.exp(), inside.exp()).sum(-1) * weights).sum()),
        off_language_mass=off,
        kl_to_reference=float(divergences.reverse_kl(reference, inside, weights)),
        kl_from_reference=float(divergences.forward_kl(reference, policy, weights)) + off,
        coverage=coverage_finite(language.instance(), inside.exp().numpy()[None]) if forward > SAME else math.nan,
        prompts=language.prompts,
        responses=language.vocab,
    )


def estimate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    language: Language,
    *,
    samples: int = 4096,
    seed: int = 0,
    batch_size: int = BATCH,
) -> Interval:
    """An unbiased estimate of KL(π*‖π), nats, with a 95% t-interval, from responses of π*; any language."""

    def log_policy(prompt: Tokens, tokens: Tokens) -> Array:
        return response_logps(model, tokenizer, language, prompt, tokens, batch_size)

    return estimate_forward_kl(language, log_policy, samples=samples, seed=seed)


def forward_kl(model: nn.Module, tokenizer: PreTrainedTokenizerBase, language: Language, *, samples: int = 4096) -> Interval:
    """KL(π*‖π), nats: exact, an interval of width 0, where all responses can be enumerated; else `estimate`."""
    if not language.enumerable:
        return estimate(model, tokenizer, language, samples=samples)
    value = evaluate(model, tokenizer, language).forward_kl
    return Interval(value, value, value)


def all_logps(model: nn.Module, tokenizer: PreTrainedTokenizerBase, language: Language, batch_size: int = BATCH) -> Array:
    """log π(y|x) of every response to every prompt, shape (X, V), nats, in the order of `Language.responses`."""
    prompt = np.repeat(np.arange(language.prompts), language.vocab)
    tokens = np.tile(language.responses(), (language.prompts, 1))
    return response_logps(model, tokenizer, language, prompt, tokens, batch_size).reshape(language.prompts, -1)


def response_logps(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    language: Language,
    prompt: Tokens,
    tokens: Tokens,
    batch_size: int = BATCH,
) -> Array:
    """log π(y|x) + log π(end|x, y), nats, shape (N,): the trainers' own log-probabilities, added up in float64.

    Args:
        model, tokenizer, language, batch_size: as for `evaluate`.
        prompt, tokens: x of shape (N,) and y of shape (N, L), END after the last token.
    """
    inputs = {name: torch.from_numpy(ids) for name, ids in encode(tokenizer, language, prompt, tokens).items()}
    device = next(model.parameters()).device
    found, training = [], model.training
    model.eval()
    try:
        with torch.no_grad(), fused(model):
            for start in range(0, len(prompt), batch_size):
                batch = {name: ids[start : start + batch_size].to(device) for name, ids in inputs.items()}
                output = sequence_logps(model, batch)[-1]
                found.append(output.log_probs.double().sum(1).cpu())
    finally:
        model.train(training)
    return torch.cat(found).numpy()


@contextmanager
def fused(model: nn.Module) -> Iterator[None]:
    """TRL's fused LM head on a model that does not have it, for as long as the context lasts."""
    wrapped: Any = model  # by PEFT, or for several processes
    base = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else getattr(wrapped, "module", wrapped)
    if "forward" in vars(base):  # TRL puts it there, in front of the class's
        yield
        return
    add_fused_lm_head(base)
    try:
        yield
    finally:
        del base.forward


def floor(
    language: Language,
    objective: Objective,
    values: Mapping[str, float] | None = None,
    *,
    rule: str = "fixed",
    logp: str = "sum",
    options: Options | None = None,
) -> float:
    """The forward KL, nats, at which an objective stops on an unrestricted table of this language's responses.

    That is `theory.simulation.floor`: the minimiser on infinitely many comparisons.

    Args:
        language: at most 1e5 responses; beyond 1,000 the floor is known only where it has a closed form, else NaN.
        objective: any.
        values: its hyperparameters; the rest keep their defaults.
        rule: ``fixed``, or ``best`` to tune the one that has no value.
        logp: ``mean`` for objectives that are given log-probabilities divided by the number of tokens (the end
            included). KL(π‖π_ref) and the like stay those of whole responses.
        options: of the tabular fit (a tied reward head, the true reward as oracle).

    Returns:
        NaN where it is out of reach, as for an objective that sees lengths in a language where these differ.
    """
    on_responses = on_table(objective, language, logp)
    if on_responses is not objective and language.eos:
        return math.nan
    settings = simulation.Settings(on_responses, dict(values or {}), rule, options or Options())
    return simulation.floor(language.instance(), settings)


def on_table(objective: Objective, language: Language, logp: str) -> Objective:
    """The objective as a table of a language's responses, all of one length, has to be given it; itself if it sees no length."""
    if logp == "mean" or objective.reads("length"):
        return _of_length(objective, language.length + 1, logp == "mean")
    return objective


def _of_length(objective: Objective, length: int, divided: bool) -> Objective:
    """The objective as it is on sequences of one length, where the table has responses of length 1."""

    @wraps(objective.function)
    def function(pair: Pair, **hyper: Any) -> Any:
        changed = {}
        for name, value in pair.given().items():
            if name.startswith("length"):
                changed[name] = value * length
            elif divided and "logp" in name:
                changed[name] = value / length
        return objective.function(pair.replace(**changed), **hyper)

    made = replace(objective, function=function)
    # Closed forms and the prior's reward are those of the summed log-probability.
    return replace(made, bradley_terry=False, implicit_reward=None) if divided else made

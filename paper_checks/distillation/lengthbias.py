"""The length-bias experiment of the distillation paper on a table: worlds, training sets D_ρ, and what each method gains.

The notes (002, lines 10–14) give the design: an oracle that prefers the longer response in 61% of
the comparisons, training sets in which the longer one is preferred in a share ρ instead, sweeps of
β and τ chosen on validation prompts by the oracle's reward, and the advantage over π_SFT on test
prompts. Sizes, features and scales below are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_softmax
from torch import Tensor

from paper_checks.distillation.notes import BASE_RATE, BETAS, LONGER, RHOS, TAUS
from paper_checks.distillation.tables import EnsembleTask
from theory import objectives
from theory.instances.tabular import Array
from theory.sampling import WinCounts
from theory.solvers.options import Options
from theory.solvers.selection import Search
from theory.solvers.tabletask import TableTask
from theory.solvers.task import World

# Fits whose gradient exceeds this are not minimisers and are never chosen.
LARGEST_GRADIENT = 1e-6


@dataclass(frozen=True)
class Method:
    """A curve of the figure.

    Attributes:
        objective: the registered objective.
        shares: the length bias of each ensemble member's own training subset (the longer response
            preferred in this share of it); empty for the registry's bootstrap fits.
    """

    objective: str
    shares: tuple[float, ...] = ()


METHODS = {
    "dpo": Method("dpo"),
    "ipo": Method("ipo"),
    "d-dpo": Method("d-dpo"),
    "p-dpo": Method("p-dpo"),
    "dp-dpo": Method("dp-dpo"),
    "e-dpo": Method("e-dpo"),
    "e-dpo-length": Method("e-dpo", (0.2, 0.5, 0.8)),
}


@dataclass(frozen=True)
class Design:
    """Sizes and scales, all ours.

    Attributes:
        prompts: with training comparisons.
        new_prompts: without any, for the validation, and as many again for the test. With 0, every
            second training prompt is for validation and the others for the test: what a policy
            that is a table needs, since it stays at π_SFT on new prompts.
        responses: V a prompt.
        comparisons: training comparisons a prompt, on average; 1,000 prompts × 30 are the paper's 30K.
        qualities: visible features that the oracle's reward depends on, besides length.
        hidden: share of the variance of quality that no feature shows.
        scale: standard deviation of quality, nats.
        length_sd: standard deviation of log length within a prompt.
        noise: temperature of the oracle's labels; 0 for the response with the larger reward ("relabel").
        policy_features, reward_features: whether that class is log-linear in the features, shared
            by all prompts, instead of the whole table; a policy has log π_SFT as a feature too.
        ridge: see `Options`.
    """

    prompts: int = 60
    new_prompts: int = 60
    responses: int = 8
    comparisons: float = 30
    qualities: int = 4
    hidden: float = 0.25
    scale: float = 2.0
    length_sd: float = 0.3
    noise: float = 0.0
    policy_features: bool = True
    reward_features: bool = True
    ridge: float = 0.01

    @property
    def parts(self) -> tuple[slice, slice]:
        """The validation and the test prompts."""
        if self.new_prompts == 0:
            return slice(0, None, 2), slice(1, None, 2)
        return slice(self.prompts, self.prompts + self.new_prompts), slice(self.prompts + self.new_prompts, None)


@dataclass(frozen=True)
class LengthWorld:
    """Prompts with their responses: N for training first, then those for validation and the test, X in all.

    Attributes:
        features: length (log tokens over their standard deviation) and the visible qualities, shape (X, V, 1 + d).
        log_ref: log π_SFT, shape (X, V).
        oracle: the oracle's reward, shape (X, V), nats.
        bonus: what the oracle adds for one standard deviation of log length, nats.
        longer: whether the first response has at least 10% more tokens than the second, (N, V, V) bool.
        preferred: probability that a comparison is of (x, i, j) and i wins, shape (N, V, V); sums to 1.
    """

    features: Array
    log_ref: Array
    oracle: Array
    bonus: float
    longer: NDArray[np.bool_]
    preferred: Array

    @property
    def unit(self) -> float:
        """The standard deviation of the oracle's reward under π_SFT within a prompt, nats."""
        reference = np.exp(self.log_ref)
        centred = self.oracle - (reference * self.oracle).sum(-1, keepdims=True)
        return float(np.sqrt((reference * centred**2).sum(-1).mean()))


def make_world(design: Design, seed: int) -> LengthWorld:
    """A random world whose oracle prefers the longer response in `BASE_RATE` of the comparisons that have one."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(20,)))
    shape = (design.prompts + 2 * design.new_prompts, design.responses)
    length = rng.standard_normal(shape)
    features = rng.standard_normal((*shape, design.qualities))
    visible = features.sum(-1) / math.sqrt(design.qualities)
    quality = math.sqrt(1 - design.hidden) * visible + math.sqrt(design.hidden) * rng.standard_normal(shape)
    log_ref = log_softmax(0.5 * rng.standard_normal(shape), -1)
    train = slice(design.prompts)
    longer = design.length_sd * _margins(length[train]) >= LONGER
    reference = np.exp(log_ref[train])
    compared = reference[:, :, None] * reference[:, None, :] * (1 - np.eye(design.responses))

    def preferred(bonus: float) -> Array:
        reward = design.scale * quality[train] + bonus * length[train]
        return compared * win_probability(_margins(reward), design.noise)

    def excess(bonus: float) -> float:
        return float(preferred(bonus)[longer].sum() / compared[longer].sum() - BASE_RATE)

    bonus = float(brentq(excess, 0.0, 5 * design.scale))
    oracle, wins = design.scale * quality + bonus * length, preferred(bonus)
    both = np.concatenate([length[..., None], features], -1)
    return LengthWorld(both, log_ref, oracle, bonus, longer, wins / wins.sum())


def _margins(table: Array) -> Array:
    """First response minus second, (N, V) to (N, V, V)."""
    return table[:, :, None] - table[:, None, :]


def win_probability(margin: Array, noise: float) -> Array:
    """P(i preferred to j) = σ(Δr/noise), the indicator of Δr > 0 without noise; elementwise."""
    return expit(margin / noise) if noise > 0 else (margin > 0).astype(np.float64)


def draw_biased(world: LengthWorld, rho: float, comparisons: int, rng: np.random.Generator) -> Array:
    """Win counts of D_ρ, shape (N, V, V): ρ of the comparisons prefer the longer response, the others the shorter one.

    Subsampling the relabelled comparisons to a share ρ leaves their distribution given (longer won,
    or shorter won) as it is, so each part is drawn from it exactly.
    """
    wins = np.zeros_like(world.preferred)
    longer_won = round(rho * comparisons)
    for count, won in ((longer_won, world.longer), (comparisons - longer_won, world.longer.transpose(0, 2, 1))):
        p = np.where(won, world.preferred, 0.0)
        wins += rng.multinomial(count, (p / p.sum()).ravel()).reshape(wins.shape)
    return wins


def reweighted(wins: Array, longer: NDArray[np.bool_], rho: float, share: float) -> Array:
    """Expected counts of D_ρ's largest subset in which the longer response is preferred in ``share`` of the comparisons."""
    weights = np.array([(1 - share) / (1 - rho), share / rho])
    return wins * (weights / weights.max())[longer.astype(int)]


def advantage_curves(
    rhos: Sequence[float] = RHOS,
    methods: Sequence[str] = tuple(METHODS),
    seeds: Sequence[int] = range(5),
    design: Design | None = None,
) -> list[dict[str, Any]]:
    """What each method gains over π_SFT by the oracle's reward, at each ρ.

    Args:
        rhos: shares of D_ρ.
        methods: names in `METHODS`.
        seeds: each a world of its own with its own data.
        design: sizes and scales.

    Returns:
        One row a (seed, ρ, method): ``hyper`` the chosen β or τ, ``advantage`` on the test prompts
        in nats and ``advantage_sd`` in standard deviations of the oracle's reward under π_SFT,
        ``validation`` that on the validation prompts (nats), ``gradient_norm`` of the chosen fit,
        ``uncertified`` how many fits of the sweep were not minimisers to 1e-6 (never chosen).
    """
    design = design or Design()
    return [row for seed in seeds for row in _curves_of(make_world(design, seed), rhos, methods, seed, design)]


def _curves_of(
    world: LengthWorld, rhos: Sequence[float], methods: Sequence[str], seed: int, design: Design
) -> Iterator[dict[str, Any]]:
    count = round(design.comparisons * design.prompts)
    streams = (np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(21, round(1000 * rho)))) for rho in rhos)
    wins = np.stack([draw_biased(world, rho, count, rng) for rho, rng in zip(rhos, streams, strict=True)])
    task = task_of(world, wins, design)
    for name in methods:
        method = METHODS[name]
        if method.shares:
            task.members = _members(world, wins, rhos, method.shares, design)
        else:
            task.members = [r for r in TableTask.rewards(task, objectives.get(method.objective)) if r is not None]
        for rho, chosen in zip(rhos, _swept(world, task, method.objective, design), strict=True):
            yield {"method": name, "rho": rho, "seed": seed, **chosen}


def task_of(world: LengthWorld, wins: Array, design: Design) -> EnsembleTask:
    """The task of fitting data sets (S, N, V, V) of one world in the design's classes."""
    train = slice(design.prompts)
    policy = torch.from_numpy(policy_features(world)[train]) if design.policy_features else None
    reward = torch.from_numpy(world.features[train]) if design.reward_features else None
    about = World(torch.from_numpy(world.log_ref[train]), 1.0, policy_features=policy, reward_features=reward)
    totals = wins.sum((-1, -2))
    return EnsembleTask(WinCounts(wins, totals, float(totals[0].sum())), about, Options(design.ridge))


def policy_features(world: LengthWorld) -> Array:
    """What a log-linear policy depends on: log π_SFT and the features, shape (X, V, 2 + d)."""
    return np.concatenate([world.log_ref[..., None], world.features], -1)


def on_all_prompts(world: LengthWorld, logp: Tensor, design: Design) -> Array:
    """Log-linear policies fitted on the training prompts, log-probabilities (S, N, V), on every prompt: (S, X, V).

    The parameters are read off the log-probabilities, which determine them; a table stays as it is.
    """
    if not design.policy_features:
        return logp.numpy()
    phi = torch.from_numpy(policy_features(world))
    centred = (phi - phi.mean(1, keepdim=True))[: design.prompts].flatten(0, 1)
    goal = (logp - logp.mean(-1, keepdim=True)).flatten(1)
    parameters = torch.linalg.lstsq(centred, goal.T).solution
    return torch.log_softmax(torch.einsum("xvd,ds->sxv", phi, parameters), -1).numpy()


def _members(world: LengthWorld, wins: Array, rhos: Sequence[float], shares: tuple[float, ...], design: Design) -> list[Tensor]:
    """Reward models trained on subsets of each D_ρ with the given length biases."""
    subsets = (np.stack([reweighted(w, world.longer, rho, share) for w, rho in zip(wins, rhos, strict=True)]) for share in shares)
    return [task_of(world, subset, design).reward_fit.reward for subset in subsets]


def _swept(world: LengthWorld, task: EnsembleTask, name: str, design: Design) -> list[dict[str, Any]]:
    """The objective at the sweep's best value for each data set, chosen on the validation prompts."""
    objective = objectives.get(name)
    parameter = objective.tuned
    assert parameter is not None
    values = {"beta": BETAS, "tau": TAUS}[parameter.name]
    search, start = Search(objective, [task]), [task.log_ref]
    gains, norms = [], []
    for value in values:
        resolved = objective.resolve({parameter.name: value})
        hyper = {key: torch.full((task.seeds,), v, dtype=torch.float64) for key, v in resolved.items()}
        fit = search.fit(hyper, start)[0]
        gains.append(((np.exp(on_all_prompts(world, fit.logp, design)) - np.exp(world.log_ref)) * world.oracle).sum(-1))
        norms.append(fit.gradient_norm.numpy())
    norm = np.stack(norms)
    validation, test = (np.stack(gains)[..., part].mean(-1) for part in design.parts)
    best = np.where(norm <= LARGEST_GRADIENT, validation, -np.inf).argmax(0)
    return [
        {
            "hyper": values[k],
            "advantage": float(test[k, s]),
            "advantage_sd": float(test[k, s] / world.unit),
            "validation": float(validation[k, s]),
            "gradient_norm": float(norm[k, s]),
            "uncertified": int((norm[:, s] > LARGEST_GRADIENT).sum()),
        }
        for s, k in enumerate(best)
    ]

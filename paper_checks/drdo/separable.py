"""DRDO on separable data, and the mass it leaves on responses outside the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from paper_checks.claims import Finding, claim
from paper_checks.drdo.comparisons import DISJOINT, task_of, vanishing
from paper_checks.drdo.flow import gradient_flow
from paper_checks.drdo.focal import GAMMA_F
from paper_checks.drdo.focal_minima import FOCAL, ONE_WAY
from paper_checks.drdo.graphs import all_graphs, drained, kinds, leads_to_cycle
from paper_checks.drdo.outcome import conditional
from theory import objectives
from theory.instances.tabular import Array
from theory.objectives import Pair
from theory.solvers.existence import Mask
from theory.solvers.selection import Search

DRDO, DPO = objectives.get("drdo"), objectives.get("dpo")
CONTESTED = [(0, 1, 1.0), (1, 2, 1.0), (2, 1, 1.0)]


def distil(pair: Pair) -> Tensor:
    """DRDO's reward term alone, with the policy as its own head (γ = 1): r̂ = log π."""
    return (pair.reward_margin - pair.logp_margin) ** 2


DISTIL = objectives.make(distil)


def bounded(ridge: float, edges: Sequence[tuple[int, int, float]], vocab: int) -> Array:
    """π of DRDO's estimate that a small ridge bounds, shape (V,)."""
    chosen = Search(DRDO, [task_of(edges, vocab, ridge=ridge)]).at(DRDO.resolve({}))
    return np.asarray(chosen.fits[0].logp[0, 0].exp())


def rescued(wins: Mask, gamma_f: float) -> tuple[Mask, Mask]:
    """Where every response is compared and DPO has no finite minimiser, and where DRDO has one there, shape (graphs,)."""
    compared = np.all(np.any(wins | wins.swapaxes(1, 2), axis=2), axis=1)
    degenerate = compared & drained(DPO, wins).any(1)
    return degenerate, degenerate & ~drained(DRDO, wins, gamma_f=gamma_f).any(1)


def disjoint_pairs() -> dict[str, Any]:
    """What DRDO does on two disjoint pairs labelled one way, beside two unseen responses, π_ref uniform."""
    flow = np.exp(gradient_flow(FOCAL, task_of(DISJOINT, 6), [1e2, 1e6]))
    fits = {f"{ridge:g}": bounded(ridge, DISJOINT, 6) for ridge in (1e-2, 1e-6)}
    return {
        "probability_to_zero": vanishing(DRDO, task_of(DISJOINT, 6)),
        "losers_by_ridge": {ridge: float(p[1] + p[3]) for ridge, p in fits.items()},
        "losers_under_flow_at_1e2_and_1e6": [float(p[1] + p[3]) for p in flow],
    }


@claim(
    "drdo-avoids-degeneracy",
    statement="Abstract and §1",
    says="DRDO models rewards and preferences together and so avoids the degeneracy that DPO has on such labels.",
    assumes="the labels of Lemma 1: finitely many, most pairs labelled once.",
    predicts="a finite minimiser where DPO has none.",
    tested=(
        "structure, on all 4,096 ways of comparing four responses, for γf = 0, 1 and 2; bounded fits as the ridge fades; "
        "gradient flow of the focal term to t = 1e6 (π_ref uniform, a head of its own)"
    ),
    expects="holds-if",
)
def avoids_degeneracy() -> Finding:
    """On pairs labelled one way losers and unseen responses all drain; some data with contested losers stay finite."""
    wins = all_graphs()
    degenerate, finite = rescued(wins, GAMMA_F)
    by_kind = {name: [int((finite & mask).sum()), int((degenerate & mask).sum())] for name, mask in kinds(wins).items()}
    kept = [bounded(ridge, CONTESTED, 3) for ridge in (1e-4, 1e-6)]
    evidence = {
        "every_response_compared_and_dpo_degenerate": int(degenerate.sum()),
        "of_these_finite_for_drdo_by_exponent": {f"{g:g}": int(rescued(wins, g)[1].sum()) for g in (0.0, 1.0, 2.0)},
        "finite_by_kind": by_kind,
        "one_rescued": {
            "comparisons": [list(edge[:2]) for edge in CONTESTED],
            "dpo_to_zero": vanishing(DPO, task_of(CONTESTED, 3)),
            "drdo_minimiser": [float(p) for p in kept[1]],
        },
    }
    pairs = disjoint_pairs()
    fading = pairs["losers_by_ridge"]["1e-06"] < pairs["losers_by_ridge"]["0.01"] / 5
    return conditional(
        bool((finite == (degenerate & leads_to_cycle(wins))).all() and np.abs(kept[0] - kept[1]).max() < 1e-3),
        pairs["probability_to_zero"] == [1, 3, 4, 5] and fading,
        evidence,
        assumption="from every response a chain of wins leads to a cycle (a pair labelled both ways is one)",
        counterexample={"comparisons": "two disjoint pairs, one label each, and two unseen responses", **pairs},
    )


@claim(
    "drdo-stays-in-data",
    statement="§3, last paragraph",
    says="Distilling rewards on the preference data keeps the policy within the data distribution.",
    assumes="an Oracle with finite rewards; the student trained on the same pairs.",
    predicts="the mass on responses that are not in the data stays small, or does not grow.",
    tested=(
        "gradient flow of the distillation term with a tied head (r̂ = log π) and of the focal term to t = 1e6, one pair with "
        "Δr* = 5 beside an unseen response: a table, and a log-linear class with features (1, 0, 2)"
    ),
    expects="holds-if",
)
def stays_in_data() -> Finding:
    """On a table the unseen mass falls; where responses share parameters both terms can move nearly all of it there."""
    features = [[1.0], [0.0], [2.0]]
    classes: dict[str, dict[str, Any]] = {"table": {}, "shared parameters": {"features": features}}
    unseen = {
        name: {
            "distillation": _unseen(DISTIL, [5.0, 0.0, 0.0], **options),
            "focal": _unseen(FOCAL, None, **options),
        }
        for name, options in classes.items()
    }
    evidence = {"unseen_mass_at_1e6_from_one_third": unseen}
    return conditional(
        max(unseen["table"].values()) < 1 / 3,
        min(unseen["shared parameters"].values()) > 0.9,
        evidence,
        assumption="responses share no parameters: on a table what the seen pair's winner gains comes from the rest",
        counterexample={"features": features, "reward_margin": 5.0, "unseen_mass": unseen["shared parameters"]},
    )


def _unseen(objective: Any, reward: list[float] | None, **options: Any) -> float:
    logp = gradient_flow(objective, task_of(ONE_WAY, 3, **options), [1e6], reward=reward)
    return float(np.exp(logp[0, 2]))

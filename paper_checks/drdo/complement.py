"""Lemma 1c: whether DPO's minimisers put all mass outside the dispreferred responses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from paper_checks.claims import Finding, claim
from paper_checks.drdo.comparisons import CYCLE, DISJOINT, Edge, losers, mass_outside, task_of, vanishing
from paper_checks.drdo.flow import gradient_flow
from paper_checks.drdo.graphs import VOCAB, all_graphs, drained, has_unbeaten_cycle, kinds
from paper_checks.drdo.outcome import conditional
from theory import objectives
from theory.instances.tabular import Array
from theory.objectives import Pair

DPO = objectives.get("dpo")
BETA = 0.1
BOTH_WAYS: list[Edge] = [(0, 1, 3), (1, 0, 1)]
LONG = 1e8


def loss_on(edges: Sequence[Edge], logp: Array, beta: float) -> float:
    """DPO's mean loss of a policy, log π of shape (V,), on one context with a uniform reference, nats."""
    winner, loser, count = (np.array(column) for column in zip(*edges, strict=True))
    level = torch.full((len(edges),), -math.log(len(logp)), dtype=torch.float64)
    chosen, rejected = (torch.from_numpy(logp[index]) for index in (winner, loser))
    pair = Pair(logp_chosen=chosen, logp_rejected=rejected, ref_logp_chosen=level, ref_logp_rejected=level)
    loss = DPO.terms(pair, beta=beta).loss
    assert loss is not None
    return float(np.average(loss.numpy(), weights=count))


def largest_loser(loss: float, pairs: int, beta: float) -> float:
    """The most that any policy with this mean loss on K disjoint pairs can leave on a loser, relative to its winner.

    One pair's loss is at most K times the mean: −log σ(u) ≤ KL̄ gives π_l/π_w ≤ (e^{KL̄} − 1)^{1/β} when
    π_ref is uniform, so that every sequence of policies with L̄ → 0 has π_l → 0. Source: ours.
    """
    return math.expm1(pairs * loss) ** (1 / beta)


def flow_end(edges: Sequence[Edge], vocab: int, beta: float = BETA, time: float = LONG) -> Array:
    """log π where DPO's gradient flow from the uniform reference is at ``time``."""
    return gradient_flow(DPO, task_of(edges, vocab), [time], beta=beta)[0]


def both_ways_unseen(odds: float, beta: float) -> float:
    """Mass on one unseen response where flow ends on a pair won with these odds, π_ref uniform over three.

    The flow keeps the unseen logit and the sum of the pair's: 1/(1 + 2 cosh(log(odds)/2β)). Source: ours.
    """
    return 1 / (1 + 2 * math.cosh(math.log(odds) / (2 * beta)))


@claim(
    "drdo-lemma-1c",
    statement="Lemma 1c and A.3",
    says="Every minimiser of DPO puts all probability on the complement of the dispreferred responses.",
    assumes="Assumption 1; the proof takes the pairs to be mutually exclusive (000, line 223).",
    predicts="the responses that lost at least once have probability 0 at (or towards) every minimiser.",
    tested=(
        "disjoint pairs labelled one way: structure, a bound on π_l by the loss for any policy, gradient flow to t = 1e8; "
        "a pair labelled 3:1 and a three-cycle: the finite minimiser; β = 0.1 and 1, π_ref uniform"
    ),
    expects="holds-if",
)
def all_mass_on_complement() -> Finding:
    """True of disjoint pairs labelled one way, false of a pair labelled both ways and of a cycle."""
    cases = {"disjoint, one way": (DISJOINT, 6), "labelled both ways": (BOTH_WAYS, 3), "three-cycle": (CYCLE, 4)}
    ends = {name: flow_end(*case) for name, case in cases.items()}
    outside = {name: mass_outside(np.exp(ends[name]), losers(edges)) for name, (edges, _) in cases.items()}
    drains = {name: vanishing(DPO, task_of(*case), beta=BETA) for name, case in cases.items()}
    early = flow_end(DISJOINT, 6, time=1e4)
    loss = loss_on(DISJOINT, early, BETA)
    evidence = {
        "losers": {name: losers(edges) for name, (edges, _) in cases.items()},
        "probability_to_zero": drains,
        "mass_outside_losers_at_1e8": outside,
        "loss_at_1e4": loss,
        "loser_over_winner_at_1e4": math.exp(early[1] - early[0]),
        "bound_by_that_loss": largest_loser(loss, 2, BETA),
    }
    example = {
        "labels": "response 0 beat 1 three times of four; response 2 is unseen",
        "minimiser_log_ratio": float(ends["labelled both ways"][0] - ends["labelled both ways"][1]),
        "log_odds_over_beta": math.log(3) / BETA,
        "mass_outside_losers": {"beta 0.1": outside["labelled both ways"], "beta 1": both_ways_unseen(3, 1.0)},
        "mass_outside_losers_of_a_three_cycle": outside["three-cycle"],
    }
    one_way = drains["disjoint, one way"] == losers(DISJOINT) and outside["disjoint, one way"] > 1 - 1e-6
    return conditional(
        one_way,
        not drains["labelled both ways"] and not drains["three-cycle"] and outside["labelled both ways"] < 0.5,
        evidence,
        assumption="the pairs are disjoint and each is labelled one way only",
        counterexample=example,
    )


@claim(
    "drdo-lemma-1c-overlap",
    statement="Lemma 1c and A.3",
    says="The conclusion of Lemma 1c extends from mutually exclusive pairs to all preference data.",
    assumes="“Assume for now that all preference samples … are mutually exclusive” (000, line 223), not lifted later.",
    predicts="on any set of comparisons every response that ever lost drains.",
    tested="all 4,096 ways in which the six pairs of four responses can be compared: not, one way, the other, or both ways",
    expects="holds-if",
)
def overlapping_pairs() -> Finding:
    """It holds exactly where no cycle of wins is unbeaten from outside; a pair labelled both ways is such a cycle."""
    wins = all_graphs()
    lost, gone = wins.any(1), drained(DPO, wins)
    holds, cycle = (gone | ~lost).all(1), has_unbeaten_cycle(wins)
    groups = kinds(wins)
    evidence = {
        "data_sets": len(wins),
        "holds_where_no_cycle_is_unbeaten": int((holds & ~cycle).sum()),
        "of": int((~cycle).sum()),
        "holds_despite_an_unbeaten_cycle": int((holds & cycle).sum()),
        "holds_by_kind": {name: [int((holds & mask).sum()), int(mask.sum())] for name, mask in groups.items()},
    }
    example = {
        "comparisons": [list(edge[:2]) for edge in CYCLE],
        "probability_to_zero": vanishing(DPO, task_of(CYCLE, VOCAB), beta=BETA),
        "minimiser": [float(p) for p in np.exp(flow_end(CYCLE, VOCAB))],
    }
    return conditional(
        bool((holds == ~cycle).all()),
        not holds.all(),
        evidence,
        assumption="no cycle of wins is left unbeaten from outside it; a pair labelled both ways is such a cycle",
        counterexample=example,
    )


@claim(
    "drdo-lemma-1c-unseen",
    statement="§3, after Lemma 1",
    says="DPO's optimal policy can give very high probability to responses that never appear in the training data.",
    assumes="pairs labelled one way, so that no minimiser is finite.",
    predicts="some policies with loss → 0, the infimum, put almost all mass on unseen responses.",
    tested=(
        "explicit policies with any share on the unseen response, and their loss; gradient flow from the uniform π_ref on a "
        "table's logits, and in a log-linear class of dimension 1 with features (1, 0, 2) for winner, loser and unseen; β = 0.1"
    ),
    expects="holds-if",
)
def mass_on_unseen() -> Finding:
    """The infimum allows any share; flow on a table ends with none, with shared parameters it can end with all."""
    one = [(0, 1, 1.0)]
    shares = (0.01, 0.5, 0.99)
    losses = {f"{share:g}": loss_on(one, np.log([1 - share, 1e-150, share]), BETA) for share in shares}
    times = [1e2, 1e4, LONG]
    table = np.exp(gradient_flow(DPO, task_of(one, 3), times, beta=BETA)[:, 2])
    shared = np.exp(gradient_flow(DPO, task_of(one, 3, features=[[1.0], [0.0], [2.0]]), times, beta=BETA)[:, 2])
    evidence = {
        "loss_of_policies_by_share_on_unseen": losses,
        "unseen_mass_under_flow_on_a_table": [float(p) for p in table],
        "unseen_mass_under_flow_with_shared_parameters": [float(p) for p in shared],
        "at_times": times,
    }
    return conditional(
        max(losses.values()) < 1e-10 and shared[-1] > 0.99,
        bool(table[-1] < 1e-6),
        evidence,
        assumption="responses share parameters, or any minimising sequence counts and not only the one that training takes",
        counterexample={
            "policy": "a table's logits, gradient flow from π_ref",
            "unseen_mass_at_1e8": float(table[-1]),
            "unseen_mass_of_the_reference": 1 / 3,
        },
    )

"""Lemma 2 and what §3 says of regressing on rewards: distilled DPO, IPO and the reward model itself."""

from __future__ import annotations

import math

import numpy as np
import torch

from paper_checks.claims import Finding, claim
from paper_checks.drdo.comparisons import CYCLE, DISJOINT, losers, mass_outside, task_of, vanishing
from paper_checks.drdo.flow import gradient_flow
from paper_checks.drdo.graphs import all_graphs, drained, kinds
from paper_checks.drdo.outcome import conditional, error
from theory import objectives
from theory.instances import Instance
from theory.instances.tabular import Array
from theory.objectives import Pair
from theory.sampling import draw
from theory.simulation import Settings, make_task, solve
from theory.solvers.existence import Mask
from theory.solvers.options import Options
from theory.solvers.selection import Search

D_DPO = objectives.get("d-dpo")
REFERENCE = np.array([[0.1, 0.4, 0.3, 0.2]])
ONE_WAY = [(0, 1, 1.0)]


def distilled_log_ratio(margin: float, beta: float) -> float:
    """log π(0)/π(1) of distilled DPO when the true reward prefers response 0 to the other three by ``margin``."""
    target = np.exp([[margin, 0.0, 0.0, 0.0]])
    instance = Instance(target / target.sum(), REFERENCE)
    settings = Settings(D_DPO, {"beta": beta}, rule="fixed", options=Options(ridge=0.0, oracle="true"))
    outcome = solve(instance, make_task(instance, draw(instance, 10_000, 0), settings), settings)
    assert bool(outcome.finite[0])
    return float(outcome.logp[0, 0, 0] - outcome.logp[0, 0, 1])


def expected_log_ratio(margin: float, beta: float) -> float:
    """Δr/β + Δlogπ_ref: the zero of the squared error. Source: drdo eq. 4."""
    return margin / beta + math.log(REFERENCE[0, 0] / REFERENCE[0, 1])


@claim(
    "drdo-lemma-2",
    statement="Lemma 2, first part",
    says="On non-deterministic pairs distilled DPO (Eq. 4) also drives the losing response's relative probability to 0.",
    assumes="Proposition 1 and Assumption 1, by which the true reward is finite everywhere (000, line 30).",
    predicts="π(y_l)/π(y_w) → 0 at the minimiser.",
    tested=(
        "minimisers for true reward margins 0 (a fair pair), 1, 5 and 20 at β = 0.1 and 1 (V = 4, n = 10,000, seed 0, no ridge) "
        "against Δr/β + Δlogπ_ref; and structure when the reward is itself an unregularised fit"
    ),
    expects="holds-if",
)
def distilled_ratio() -> Finding:
    """The log-ratio is Δr/β + Δlogπ_ref: finite with the reward, and π_ref's own on a fair pair."""
    grid = [(margin, beta) for margin in (0.0, 1.0, 5.0, 20.0) for beta in (0.1, 1.0)]
    found = {key: distilled_log_ratio(*key) for key in grid}
    away = max(abs(value - expected_log_ratio(*key)) for key, value in found.items())
    structure = {name: vanishing(objectives.get(name), task_of(ONE_WAY, 3)) for name in ("d-dpo", "e-dpo", "reward")}
    evidence = {
        "log_ratio_winner_over_loser": {f"margin {m:g}, beta {b:g}": value for (m, b), value in found.items()},
        "largest_error_against_closed_form": error(away, 1e-6),
        "probability_to_zero_with_a_reward_fitted_to_a_pair_labelled_one_way": structure,
    }
    # A fair pair at β = 0.1, and one with a true margin of 1.
    example = {
        "loser_over_winner": math.exp(-found[0.0, 0.1]),
        "reference": float(REFERENCE[0, 1] / REFERENCE[0, 0]),
        "loser_over_winner_at_margin_1": math.exp(-found[1.0, 0.1]),
    }
    return conditional(
        structure["d-dpo"] == [1] and away < 1e-6,
        example["loser_over_winner"] > 0.1,
        evidence,
        assumption="the reward difference goes to infinity, as that of an unregularised fit does on pairs labelled one way",
        counterexample=example,
    )


def flow_masses(margin: float, beta: float) -> dict[str, float]:
    """Where distilled DPO's flow ends on two disjoint pairs beside two unseen responses, π_ref uniform.

    Each pair keeps the sum of its logits, the unseen keep theirs: e^{±Δr/2β} : 1. Source: ours.
    """
    winner, loser = math.exp(margin / (2 * beta)), math.exp(-margin / (2 * beta))
    total = 2 * winner + 2 * loser + 2
    return {"outside losers": 1 - 2 * loser / total, "outside winners": 1 - 2 * winner / total}


@claim(
    "drdo-lemma-2-mass",
    statement="Lemma 2, second part",
    says="Every minimiser of distilled DPO puts all its mass on the complement of a set of compared responses.",
    assumes="as in the first part; the formula is lost, the words say responses “appearing as preferred” (000, line 39).",
    predicts="all mass outside the dispreferred (as in Lemma 1c), or outside the preferred, responses.",
    tested=(
        "both readings, two disjoint pairs and two unseen responses (V = 6, π_ref uniform, β = 0.1): gradient flow "
        "for Δr = 1 to t = 1e5, its closed form for larger Δr"
    ),
    expects="holds-if",
)
def distilled_mass() -> Finding:
    """Outside the losers only as Δr → ∞; outside the winners never under training."""
    reward = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    end = np.exp(gradient_flow(D_DPO, task_of(DISJOINT, 6), [1e5], reward=reward, beta=0.1)[0])
    measured = {"outside losers": mass_outside(end, losers(DISJOINT)), "outside winners": mass_outside(end, [0, 2])}
    closed = {f"{m:g}": flow_masses(m, 0.1) for m in (0.0, 0.1, 1.0, 10.0)}
    away = max(abs(measured[name] - closed["1"][name]) for name in measured)
    evidence = {"mass_by_reward_margin": closed, "largest_error_of_flow_against_closed_form": error(away, 1e-5)}
    example = {"fair_pairs_margin": 0.0, **closed["0"], "outside_winners_at_margin_10": closed["10"]["outside winners"]}
    return conditional(
        closed["10"]["outside losers"] > 1 - 1e-12 and away < 1e-5,
        closed["0"]["outside losers"] < 1 - 1e-6 and closed["10"]["outside winners"] < 1e-6,
        evidence,
        assumption="Δr → ∞ on disjoint pairs, and the complement is that of the dispreferred responses",
        counterexample=example,
    )


@claim(
    "drdo-reward-mle-immune",
    statement="§3, after Lemma 2",
    says="The maximum-likelihood reward model does not suffer from DPO's degeneracy, since it has no likelihoods in the sigmoid.",
    assumes="“provided there is enough coverage in the preference data” (000, line 40).",
    predicts="data sets on which DPO has no finite minimiser and the reward model has one.",
    tested="all 4,096 ways of comparing four responses; and both margins on a pair labelled one way as a ridge fades",
    expects="holds-if",
)
def reward_model_immune() -> Finding:
    """The two drain the same responses of the same data; with enough coverage for the one the other is finite too."""
    wins = all_graphs()
    gone = {name: drained(objectives.get(name), wins) for name in ("dpo", "reward")}
    finite = {name: ~mask.any(1) for name, mask in gone.items()}
    margins = {f"{ridge:g}": _one_way_margins(ridge) for ridge in (1e-2, 1e-4, 1e-8)}
    evidence = {
        "data_sets": len(wins),
        "finite": {name: int(mask.sum()) for name, mask in finite.items()},
        "finite_for_the_reward_alone": int((finite["reward"] & ~finite["dpo"]).sum()),
        "same_responses_drained": int((gone["dpo"] == gone["reward"]).all(1).sum()),
        "margins_by_ridge": margins,
    }
    return conditional(
        bool(finite["reward"].any()),
        bool((gone["dpo"] == gone["reward"]).all()),
        evidence,
        assumption="every response that lost can be reached back by wins; DPO's minimiser is then finite as well",
        counterexample={
            "comparisons": "one pair, one label",
            "reward_margin_by_ridge": {k: m["reward"] for k, m in margins.items()},
        },
    )


def _one_way_margins(ridge: float) -> dict[str, float]:
    """The reward's margin and DPO's implicit one, β = 0.1, on one pair with one label, nats."""
    task = task_of(ONE_WAY, 3, ridge=ridge)
    implied = Search(objectives.get("dpo"), [task]).at({"beta": 0.1}).fits[0].logp[0, 0]
    fitted = task.reward_fit.reward[0, 0]
    return {"reward": float(fitted[0] - fitted[1]), "dpo": 0.1 * float(implied[0] - implied[1])}


def agreeing_reward(wins: Mask) -> bool:
    """Whether one reward gives every labelled pair of a graph (V, V) the same margin 1, by least squares."""
    winner, loser = np.nonzero(wins)
    system = np.zeros((len(winner), len(wins)))
    rows = np.arange(len(winner))
    system[rows, winner], system[rows, loser] = 1, -1
    solution = np.linalg.lstsq(system, np.ones(len(winner)), rcond=None)[0]
    return bool(np.abs(system @ solution - 1).max(initial=0) < 1e-9)


@claim(
    "drdo-edpo-generalises-ipo",
    statement="§3, on IPO and e-DPO",
    says="Regressing on reward differences strictly generalises IPO.",
    assumes="a pointwise reward r(x, y) as the regression target; IPO's target is the constant 1/(2τ).",
    predicts="for any labelled data some reward makes Eq. 4 at β = 1 equal to IPO's loss.",
    tested="the two losses on random pairs, and the system r_w − r_l = 1/(2τ) on all 4,096 ways of comparing four responses",
    expects="holds-if",
)
def generalises_ipo() -> Finding:
    """The losses agree where such a reward exists; labels that go both ways, or a shortcut of a chain, have none."""
    wins = all_graphs()
    exists = np.array([agreeing_reward(graph) for graph in wins])
    groups = kinds(wins)
    gap = _largest_gap(tau=0.1)
    evidence = {
        "largest_difference_of_the_losses": error(gap, 1e-10),
        "such_a_reward_exists_by_kind": {name: [int((exists & m).sum()), int(m.sum())] for name, m in groups.items()},
        "and_on_a_three_cycle": agreeing_reward(_graph([edge[:2] for edge in CYCLE])),
    }
    both = exists & groups["some pair labelled both ways"]
    return conditional(
        gap < 1e-10 and bool(exists[groups["one way, disjoint"]].all()),
        not both.any(),
        evidence,
        assumption="one reward gives all labelled pairs the same margin, as on disjoint pairs labelled one way",
        counterexample={
            "pair labelled both ways": "r_0 − r_1 = r_1 − r_0 = 1/(2τ)",
            "graphs_with_one_and_such_a_reward": int(both.sum()),
        },
    )


def _graph(edges: list[tuple[int, int]], vocab: int = 4) -> Mask:
    wins = np.zeros((vocab, vocab), dtype=bool)
    wins[tuple(np.array(edges).T)] = True
    return wins


def _largest_gap(tau: float) -> float:
    """The largest difference of IPO's loss and Eq. 4's with a constant margin 1/(2τ), on random pairs."""
    numbers: Array = -np.random.default_rng(0).exponential(2.0, size=(4, 100))
    names = ("logp_chosen", "logp_rejected", "ref_logp_chosen", "ref_logp_rejected")
    pair = Pair(**{name: torch.from_numpy(row) for name, row in zip(names, numbers, strict=True)})
    rewards = {"reward_chosen": torch.full((100,), 1 / (2 * tau), dtype=torch.float64), "reward_rejected": torch.zeros(100)}
    ipo, distilled = objectives.get("ipo").terms(pair, tau=tau).loss, D_DPO.terms(pair.replace(**rewards), beta=1.0).loss
    assert ipo is not None
    assert distilled is not None
    return float((ipo - distilled).abs().max())

"""How rewards judge policies in the paper's evaluation: each policy by its own, all by the student's teacher."""

from __future__ import annotations

import numpy as np

from paper_checks.claims import Finding, Verdict, claim
from paper_checks.drdo.degeneracy import FAIR_PAIR
from paper_checks.drdo.outcome import conditional
from theory import objectives
from theory.instances import random_instance
from theory.instances.tabular import Array
from theory.simulation import Settings, draw_data, make_task, solve
from theory.solvers.options import Options
from theory.statistics.rates import Interval, mean

DRDO = objectives.get("drdo")
REPLICATES = 100


def win_rate(first: Array, second: Array, first_reward: Array, second_reward: Array) -> float:
    """P(r₁(y) > r₂(y')) for y ~ first, y' ~ second, independent; ties count half. All of shape (V,)."""
    gap = first_reward[:, None] - second_reward[None, :]
    return float(first @ ((gap > 0) + 0.5 * (gap == 0)) @ second)


@claim(
    "drdo-own-rewards",
    statement="§5, Evaluation",
    says="A policy wins where the reward of its response is larger, the two rewards being those of the policies compared.",
    assumes="“the expected rewards (logits) from the policies being compared” (000, line 62), read as each policy's own head.",
    predicts="a win rate that the losses determine.",
    tested=(
        "the tied instance's target policy against itself: win rate when one head is shifted by a constant, to which DRDO's "
        "and the Bradley–Terry loss are blind (read off the losses)"
    ),
    expects="holds-if",
)
def own_rewards() -> Finding:
    """The losses fix rewards up to a constant a prompt, and that constant decides the wins."""
    policy, reward = FAIR_PAIR.target[0], FAIR_PAIR.reward()[0]
    rates = {f"{c:g}": win_rate(policy, policy, reward + c, reward) for c in (-2.0, -0.1, 0.0, 0.1, 2.0)}
    blind = {name: "student_reward" in objectives.get(name).margins for name in ("drdo", "oracle", "reward")}
    evidence = {"loss_blind_to_the_constant": blind, "win_rate_of_a_policy_against_itself_by_shift": rates}
    return conditional(
        rates["0"] == 0.5,
        all(blind.values()) and rates["-2"] < 0.01 < 0.99 < rates["2"],
        evidence,
        assumption="one and the same reward function scores both responses",
        counterexample={"policies": "equal", "shift_of_one_head": 2.0, "win_rate": rates["2"]},
    )


def advantages(comparisons: int) -> dict[str, Interval]:
    """DRDO's mean reward advantage over π_ref by the true reward, and how much its teacher and a fresh one add to it.

    100 data sets; the student's head is tied to its policy, as a shared network ties them.
    """
    instance = random_instance(0)
    settings = Settings(DRDO, rule="fixed", options=Options(reward_head="tied"))
    task = make_task(instance, draw_data(instance, comparisons, 0, range(REPLICATES)), settings)
    fresh = make_task(instance, draw_data(instance, comparisons, 1, range(REPLICATES)), settings)
    gained = np.exp(solve(instance, task, settings).logp) - instance.reference

    def advantage(reward: Array) -> Array:
        return np.asarray((gained * reward).sum(-1) @ instance.context_weights)

    truth = advantage(instance.reward()[None])
    return {
        "true advantage": mean(truth),
        "added by its teacher": mean(advantage(task.reward_fit.reward.numpy()) - truth),
        "added by a fresh oracle": mean(advantage(fresh.reward_fit.reward.numpy()) - truth),
    }


@claim(
    "drdo-oracle-judge",
    statement="§7, Figure 3",
    says="The Oracle's reward advantage validates that DRDO improves on the SFT policy.",
    assumes="the Oracle that judges is the one that taught the student (000, line 112), fitted to the same preferences.",
    predicts="the Oracle's advantage is, on average, the true one.",
    tested=(
        "DRDO with a tied head on a random instance (V = X = 10, γ = 1, τ = 0.5, seed 0), 100 data sets of 1,000 and of 10,000 "
        "comparisons: mean advantage over π_ref with 95% Student intervals"
    ),
    expects="holds-if",
)
def oracle_judge() -> Finding:
    """The teacher overstates what it taught; an Oracle fitted to other data does not."""
    found = {n: advantages(n) for n in (1_000, 10_000)}
    evidence = {f"{n} comparisons": {k: [i.low, i.value, i.high] for k, i in by.items()} for n, by in found.items()}
    return conditional(
        all(abs(by["added by a fresh oracle"].value) < 0.1 * by["added by its teacher"].value for by in found.values()),
        all(by["added by its teacher"].low > 0 for by in found.values()),
        evidence,
        assumption="the judge is fitted to preferences that the teacher has not seen",
        counterexample={"comparisons": 1_000, **evidence["1000 comparisons"]},
    )


@claim(
    "drdo-oracle-lm-term",
    statement="§4, Eq. 5; §5, footnote 5",
    says="Regularising the Oracle with a language-modelling loss makes its rewards generalise better.",
    assumes="hidden states that the reward head and the language-model head share.",
    predicts="a better reward on preferences outside the training data.",
    tested="on a table the heads share nothing: the reward is the same with and without the term (2,000 comparisons, seed 0)",
    expects="not-checkable",
)
def oracle_lm_term() -> Finding:
    """A statement about shared representations of trained networks."""
    instance, settings = random_instance(0), Settings(objectives.get("oracle"), rule="fixed")
    task = make_task(instance, draw_data(instance, 2_000, 0), settings)
    student = solve(instance, task, settings).student
    assert student is not None
    away = float(np.abs(student - task.reward_fit.reward.numpy()).max())
    reason = "it is a statement about hidden states that two heads share; the paper gives no numbers for it"
    return Finding(Verdict.NOT_CHECKABLE, {"same_reward_on_a_table": away < 1e-6}, reason)

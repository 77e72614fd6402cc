"""The experiment's numbers against each other, and what our text of it leaves open."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from paper_checks.claims import Finding, Verdict, claim
from paper_checks.distillation import notes
from theory import objectives
from theory.instances import random_instance
from theory.simulation import Settings, draw_data, make_task
from theory.solvers.newton import newton
from theory.solvers.selection import Search
from theory.solvers.tabletask import TableTask
from theory.solvers.task import REWARD
from theory.statistics import divergences

# Rewards closer than this are the same up to the solver's tolerance.
EQUAL = 1e-6
# "Learning rate 10 6", as our text has it.
LITERAL_RATE = 1e6


@claim(
    "distillation-training-volume",
    statement="Experiment setup (002, lines 11 and 14)",
    says="Policies train for 10,000 steps of 16 and reward models for 3,000 steps of 64 on 30,000 examples; the pessimism weight "
    "is annealed over the same 10,000 steps.",
    assumes="an epoch is one pass over D_ρ.",
    predicts="several passes over the data, about as many for both, and one length of the schedule.",
    tested="arithmetic",
    expects="holds",
)
def training_volume() -> Finding:
    """Examples seen and passes over the training set."""
    seen = {"policy": notes.POLICY_STEPS * notes.POLICY_BATCH, "reward": notes.REWARD_STEPS * notes.REWARD_BATCH}
    epochs = {name: count / notes.EXAMPLES for name, count in seen.items()}
    alike = 1 < min(epochs.values()) < max(epochs.values()) < 2 * min(epochs.values())
    holds = alike and notes.ANNEALING_STEPS == notes.POLICY_STEPS
    evidence = {
        "quotes": {
            "002, line 11": "a training set of 30K examples",
            "002, line 14": "We train policies for 10,000 steps with batch size 16 … reward models for 3k steps with batch "
            "size 64 … linearly during the 10k training steps",
        },
        "examples_seen": seen,
        "epochs": epochs,
        "steps_an_epoch_of_the_policy": notes.EXAMPLES / notes.POLICY_BATCH,
    }
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else evidence)


def comparisons_needed(rho: float, examples: int = notes.EXAMPLES, base: float = notes.BASE_RATE) -> float:
    """Comparisons with a longer response that a pool needs, a share ``base`` of them won by it, to hold D_ρ."""
    return max(rho * examples / base, (1 - rho) * examples / (1 - base))


@claim(
    "distillation-subsampling-feasible",
    statement="Datasets (002, line 10)",
    says="Training sets of 30,000 examples with the longer response preferred in 20% to 80% of them are selected from relabelled "
    "data in which it is preferred in 61%.",
    assumes="sampled without repetition; every example of D_ρ has a response that is at least 10% longer, and 61% is a share "
    "of such examples; the size of the pool is not in our text.",
    predicts="the pool holds 24,000 examples won by the longer response (ρ = 0.8) and 24,000 won by the shorter one (ρ = 0.2).",
    tested="arithmetic, against the sizes of the TL;DR comparisons that the other two papers state",
    expects="holds-if",
)
def subsampling_is_feasible() -> Finding:
    """The smallest pool for each ρ."""
    needed = {rho: comparisons_needed(rho) for rho in notes.RHOS}
    hardest = max(needed, key=lambda rho: needed[rho])
    pools = {"unified, Table 4 (003, line 354): 92.9K for training": 92_900, "drdo, Table 5 (000, line 291): 44,709": 44_709}
    enough = {name: size >= needed[hardest] for name, size in pools.items()}
    evidence = {
        "quote": "002, line 10: longer responses … are preferred in 61% of the examples",
        "comparisons_needed": {f"{rho:g}": count for rho, count in needed.items()},
        "hardest_rho": hardest,
        "pools_large_enough": enough,
        "least_share_of_92.9K_with_a_longer_response": needed[hardest] / 92_900,
        "the_same_if_61%_is_a_share_of_all_examples": notes.BASE_RATE + (1 - min(notes.RHOS)) * notes.EXAMPLES / 92_900,
    }
    if all(enough.values()):
        return Finding(Verdict.HOLDS, evidence)
    if not any(enough.values()):
        return Finding(Verdict.FAILS, evidence, counterexample=evidence)
    small = min(pools.values())
    against = {"pool": small, "won_by_the_shorter": (1 - notes.BASE_RATE) * small, "wanted_at_rho_0.2": 0.8 * notes.EXAMPLES}
    least = f"the pool holds at least {np.ceil(needed[hardest]):,.0f} comparisons in which one response is 10% longer"
    return Finding(Verdict.HOLDS_IF, evidence, least, counterexample=against)


@claim(
    "distillation-compute",
    statement="Appendix C (002, line 12)",
    says="Policies train on 32 TPU v3 chips and reward models on 16, at about 0.1 steps a second.",
    assumes="the sweeps of line 14, one run a value, at each of the seven ρ.",
    predicts="27.8 hours for a policy and 8.3 for a reward model.",
    tested="arithmetic only: the speed cannot be measured without the chips and the models",
    expects="not-checkable",
)
def compute() -> Finding:
    """Hours a run, and what the whole sweep takes."""
    hours = {
        "policy": notes.POLICY_STEPS / notes.STEPS_A_SECOND / 3600,
        "reward": notes.REWARD_STEPS / notes.STEPS_A_SECOND / 3600,
    }
    runs = len(notes.RHOS) * (len(notes.TAUS) + 5 * len(notes.BETAS))
    evidence = {
        "quote": "002, line 12: We obtain roughly 0.1 steps per second when training, for both the policy and reward models",
        "hours_a_run": hours,
        "policy_runs_with_5_variants_of_DPO_and_IPO": runs,
        "chip_hours_of_the_policy_runs": runs * hours["policy"] * notes.POLICY_CHIPS,
        "chip_hours_of_one_reward_model": hours["reward"] * notes.REWARD_CHIPS,
        "days_one_after_the_other": runs * hours["policy"] / 24,
    }
    return Finding(Verdict.NOT_CHECKABLE, evidence, "needs the TPUs and the models; the arithmetic shows the experiment's size")


@claim(
    "distillation-experiments",
    statement="Figure 2, Figure B.5 and the tables on TL;DR and Anthropic Helpfulness (002, lines 6, 10, 13, 14)",
    says="The reported curves were obtained by training PaLM-2-XS policies and rewards, judged by a TL;DR oracle and Gemini.",
    assumes="as stated.",
    predicts="the reported curves.",
    tested="not tested; the tabular twin of Figure 2 is under distillation-length-bias-…",
    expects="not-checkable",
)
def experiments() -> Finding:
    """Closed models, no code, no numbers in our text."""
    evidence = {
        "quotes": {
            "002, line 13": "models like Palm-2-XS (Anil et al., 2023) and Gemini 1.0 Ultra (Gemini Team, 2024)",
            "002, line 9": "does not contain an explicit statement about releasing code",
        }
    }
    return Finding(Verdict.NOT_CHECKABLE, evidence, "the models are not public, no code is released, and our text has no numbers")


@claim(
    "distillation-lost-signs",
    statement="Experiment setup (002, line 14)",
    says="The pessimism weight is annealed “from 10 4 to 10 2” and the learning rates are “10 6” and “4 10 6”: minus signs are "
    "lost in our text, and we read 1e-4 → 1e-2, 1e-6 and 4e-6.",
    assumes="exact minimisers on a table of 10 × 10, γ = 1, n = 10,000 (ours).",
    predicts="with the literal weights hardly a gain over π_ref is left, and gradient descent cannot take the literal rate.",
    tested="dp-DPO's best advantage over the sweep of β at λ = 1e-4, 1e-2 and 1e2; 2/L of d-DPO's loss at π_ref",
    expects="holds-if",
)
def lost_signs() -> Finding:
    """The advantage kept under each reading, and the largest stable rate."""
    world = _World(seed=0)
    kept = {f"{weight:g}": world.best_advantage("dp-dpo", weight) for weight in (1e-4, 1e-2, 1e2)}
    limits = {f"{beta:g}": world.largest_rate(beta) for beta in notes.BETAS}
    share, largest = kept["100"] / kept["0.01"], max(limits.values())
    literal = {"share_of_the_gain_kept_by_lambda_100": share, "rate": LITERAL_RATE, "largest_stable_rate_of_the_sweep": largest}
    evidence = {"best_advantage_at_lambda": kept, "largest_stable_rate_at_beta": limits, "rates_as_we_read_them": [1e-6, 4e-6]}
    if share > 0.5 and largest > LITERAL_RATE:
        return Finding(Verdict.HOLDS, evidence)
    if kept["0.01"] <= 0 or min(limits.values()) < 4e-6:
        return Finding(Verdict.FAILS, evidence, counterexample=evidence)
    return Finding(Verdict.HOLDS_IF, evidence, "the exponents are negative, as we read them", counterexample=literal)


@claim(
    "distillation-weight-notation",
    statement="Experiment setup (002, line 14) against our restoration of the objectives",
    says="The annealed quantity is called γ = α/β, while we write the penalty as λ·KL(π_ref‖π) with λ from 1e-4 to 1e-2.",
    assumes="the loss is (β·Δlog(π/π_ref) − Δr)², so that either λ = γ, or λ = α = γβ.",
    predicts="the readings agree at β = 1 and move apart by a factor β elsewhere.",
    tested="dp-DPO's exact minimisers under both readings at γ = 1e-2, over the sweep of β, on a table of 10 × 10, n = 10,000",
    expects="not-checkable",
)
def weight_notation() -> Finding:
    """How far the two readings' policies and advantages are apart."""
    world = _World(seed=0)
    fits = {beta: (world.policy("dp-dpo", beta, 1e-2), world.policy("dp-dpo", beta, 1e-2 * beta)) for beta in notes.BETAS}
    apart = {f"{beta:g}": float(divergences.total_variation(a, b).mean()) for beta, (a, b) in fits.items()}
    best = [max(world.advantage(pair[k]) for pair in fits.values()) for k in (0, 1)]
    evidence = {
        "total_variation_at_beta": apart,
        "best_advantage_if_lambda_is_gamma": best[0],
        "best_advantage_if_lambda_is_gamma_beta": best[1],
        "relative_difference": abs(best[0] - best[1]) / max(best),
    }
    return Finding(Verdict.NOT_CHECKABLE, evidence, "the formula is lost; the numbers show how much hangs on the reading")


@claim(
    "distillation-ensemble-initialisations",
    statement="drdo §5, “DRDO and e-DPO Specifics” (000, line 60), on this paper's e-DPO",
    says="e-DPO is reproduced with three reward models that differ in the random initialisation of their heads.",
    assumes="the same data and loss for all three; the notes elide how the original's members differ.",
    predicts="three different rewards, without which e-DPO is dp-DPO with one.",
    tested="Bradley–Terry rewards on a table of 10 × 10 fitted from 3 random starts, n = 10,000; e-DPO with them against dp-DPO; "
    "bootstrap members for comparison",
    expects="holds-if",
)
def initialisations_make_an_ensemble() -> Finding:
    """The spread of rewards over starts, and over bootstrap samples."""
    world = _World(seed=0)
    starts = world.rewards_from_random_starts(3)
    spread = float((starts.amax(0) - starts.amin(0)).max())
    members = torch.stack([r for r in world.task.rewards(objectives.get("e-dpo")) if r is not None])
    bootstrap = float(members.std(0).mean())
    single, ensemble = world.policy("dp-dpo", 0.1, 1e-2), world.policy("e-dpo", 0.1, 1e-2)
    evidence = {
        "instance": "random_instance(0), n = 10,000, seed 0; β = 0.1, λ = 1e-2",
        "rewards_from_3_starts_equal_within": EQUAL,
        "equal": spread < EQUAL,
        "mean_deviation_of_bootstrap_members_nats": bootstrap,
        "total_variation_e_dpo_with_bootstrap_members_from_dp_dpo": float(divergences.total_variation(single, ensemble).mean()),
    }
    if spread >= EQUAL:
        return Finding(Verdict.HOLDS, evidence)
    needed = "the reward's loss is not convex in what is trained (deep models stopped early), or the members see different data"
    against = {"instance": evidence["instance"], "three_starts_one_reward": True, "e_dpo_is_then": "dp-DPO with that reward"}
    return Finding(Verdict.HOLDS_IF, evidence, needed, counterexample=against)


class _World:
    """A random instance with one data set, and exact fits to it."""

    def __init__(self, seed: int) -> None:
        self.instance = random_instance(seed)
        task = make_task(self.instance, draw_data(self.instance, 10_000, seed), Settings(objectives.get("dp-dpo")))
        assert isinstance(task, TableTask)
        self.task = task

    def policy(self, name: str, beta: float, weight: float) -> Tensor:
        """The minimiser at (β, λ), log-probabilities (1, X, V)."""
        return Search(objectives.get(name), [self.task]).at({"beta": beta, "lambda_": weight}).fits[0].logp

    def advantage(self, logp: Tensor) -> float:
        """E_π[r*] − E_ref[r*], nats."""
        i = self.instance
        return float(np.einsum("xv,xv,x->", logp[0].exp().numpy() - i.reference, i.reward(), i.context_weights))

    def best_advantage(self, name: str, weight: float) -> float:
        """The best advantage over the sweep of β, nats."""
        return max(self.advantage(self.policy(name, beta, weight)) for beta in notes.BETAS)

    def largest_rate(self, beta: float) -> float:
        """2 over the largest curvature of d-DPO's loss at π_ref, the mean over contexts: gradient descent's limit."""
        about = objectives.get("d-dpo")
        problem = self.task.problem(about, {"beta": torch.tensor([beta], dtype=torch.float64)}, self.task.reward_fit.reward)
        curvature = problem.evaluate(problem.start(self.task.log_ref[0].unsqueeze(1)))[2] * self.task.weights.T.unsqueeze(-1)
        return 2 / float(torch.linalg.eigvalsh(curvature).max())

    def rewards_from_random_starts(self, count: int) -> Tensor:
        """Bradley–Terry rewards from normal starts, centred, shape (count, X, V)."""
        problem = self.task.problem(REWARD, {})
        rng = np.random.default_rng(0)
        starts = [torch.from_numpy(3 * rng.standard_normal((problem.size, self.task.vocab))) for _ in range(count)]
        rewards = torch.stack([newton(problem, start).theta for start in starts])
        return rewards - rewards.mean(-1, keepdim=True)

"""How near DRDO comes to the target with unlimited data."""

from __future__ import annotations

import math

import numpy as np

from paper_checks.claims import Finding, claim
from paper_checks.drdo.degeneracy import population_margins
from paper_checks.drdo.focal import GAMMA_F
from paper_checks.drdo.outcome import conditional, error
from theory import objectives
from theory.instances import Instance, random_instance
from theory.instances.tabular import expit
from theory.simulation import Settings, draw_data, floor, make_task, solve
from theory.solvers.options import Options

DRDO, DPO = objectives.get("drdo"), objectives.get("dpo")
EXPONENTS = (0.0, 0.5, 1.0, 1.5, 2.0, 5.0)
SEEDS = range(4)


def drdo_floor(instance: Instance, gamma_f: float, head: str = "separate") -> float:
    """KL(π*‖π) of DRDO's population minimiser, nats; raises unless several starts agree on it."""
    settings = Settings(DRDO, {"gamma_f": gamma_f}, rule="fixed", options=Options(reward_head=head))
    outcome = solve(instance, make_task(instance, draw_data(instance, math.inf, 0), settings), settings)
    if not (outcome.finite[0] and outcome.agreeing[0] == outcome.starts):
        raise ArithmeticError(f"no unique minimiser of {instance.name} at γf = {gamma_f}")
    return float(outcome.forward_kl[0])


@claim(
    "drdo-not-consistent",
    statement="§8, Conclusion",
    says="DRDO leads to a more accurate estimation of the true preferences.",
    assumes="a Bradley–Terry target π*, unlimited data, a reward head of its own, α = 0.1.",
    predicts="the policy, or the preferences it implies, nearer the truth than DPO's; none of it lost with unlimited data.",
    tested=(
        "population minimisers (exact, several starts agreeing) on four random instances (V = X = 10, γ = 1, τ = 0.5, "
        "seeds 0–3): KL(π*‖π) for six γf beside DPO's at its best β and PMLE's at β = 0; "
        "implied preferences; seed 0 with a uniform π_ref"
    ),
    expects="holds-if",
)
def population_floor() -> Finding:
    """Nearer π* than DPO under a biased reference at γf = 1.5–2, never at it; behind DPO in implied preferences."""
    instances = [random_instance(seed) for seed in SEEDS]
    floors = {f"{g:g}": [drdo_floor(i, g) for i in instances] for g in EXPONENTS}
    dpo = [floor(i, Settings(DPO)) for i in instances]
    pmle = [floor(i, Settings(objectives.get("pmle"), {"beta": 0.0}, rule="fixed")) for i in instances]
    uniform = Instance(instances[0].target, np.full_like(instances[0].target, 0.1))
    even = {"drdo": drdo_floor(uniform, GAMMA_F), "dpo": floor(uniform, Settings(DPO))}
    evidence = {
        "kl_by_exponent": floors,
        "kl_with_a_tied_head": [drdo_floor(i, GAMMA_F, "tied") for i in instances],
        "kl_of_dpo_at_best_beta": dpo,
        "kl_of_pmle_without_its_regulariser": [error(kl, 1e-6) for kl in pmle],
        "kl_with_a_uniform_reference": {"drdo": even["drdo"], "dpo": error(even["dpo"], 1e-6)},
        "largest_error_of_implied_preference": preference_errors(instances[0]),
    }
    nearer = all(d < o for d, o in zip(floors["2"], dpo, strict=True))
    return conditional(
        nearer,
        even["drdo"] > even["dpo"] and min(map(min, floors.values())) > 1e-3,
        evidence,
        assumption="accuracy is the policy's KL from π*, γf is 1.5 to 2 (or the head is tied), and DPO's reference is biased",
        counterexample={"reference": "uniform, seed 0", "drdo": even["drdo"], "dpo": error(even["dpo"], 1e-6)},
    )


def preference_errors(instance: Instance) -> dict[str, float | str]:
    """The largest |P̂ − P| over pairs: σ(Δlogπ) of DRDO, σ of DPO's implicit reward at β = 0.1."""
    settings = Settings(DRDO, {"gamma_f": GAMMA_F}, rule="fixed")
    logp = solve(instance, make_task(instance, draw_data(instance, math.inf, 0), settings), settings).logp[0]
    drdo = expit(logp[:, :, None] - logp[:, None, :])
    dpo = expit(population_margins(instance, 0.1))
    truth = instance.win_probability()
    return {"drdo": float(np.abs(drdo - truth).max()), "dpo": error(float(np.abs(dpo - truth).max()), 1e-6)}

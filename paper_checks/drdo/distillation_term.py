"""The reward-distillation term of Eq. 6: its minimiser and its shape."""

from __future__ import annotations

import numpy as np
import sympy as sp

from paper_checks.claims import Finding, claim
from paper_checks.drdo.degeneracy import FAIR_PAIR
from paper_checks.drdo.outcome import conditional, error, judged
from theory import objectives
from theory.simulation import Settings, draw_data, make_task, solve
from theory.solvers.options import Options


@claim(
    "drdo-a5-convex",
    statement="A.5, first paragraph",
    says="The reward-distillation term is convex because it is squared.",
    assumes="a student reward r̂_θ of any parametrisation.",
    predicts="the second derivative of (Δr* − Δr̂_θ)² in θ is nowhere negative.",
    tested="symbolically, for Δr̂ linear in θ and for Δr̂ = θ²",
    expects="holds-if",
)
def squared_term_convex() -> Finding:
    """Convex in the reward and in a linear head; not through a non-linear network."""
    theta, target, slope = sp.symbols("theta target slope", real=True)
    linear = sp.diff((target - slope * theta) ** 2, theta, 2)
    curved = sp.diff((target - theta**2) ** 2, theta, 2).subs({theta: 0, target: 1})
    evidence = {"linear_second_derivative": str(linear), "square_second_derivative_at_0": int(curved)}
    return conditional(
        bool(linear.is_nonnegative),
        bool(curved < 0),
        evidence,
        assumption="the student's reward is linear in what is trained (the reward itself, or a linear head on fixed features)",
        counterexample={"reward_difference": "θ²", "target": 1, "theta": 0, "second_derivative": int(curved)},
    )


@claim(
    "drdo-distillation-term",
    statement="§4, after Eq. 6",
    says="The distillation term is least when the student has the Oracle's reward differences, whatever its pointwise rewards.",
    assumes="a reward head of its own.",
    predicts="student − oracle is constant in each context at the minimiser, and any constant does.",
    tested="DRDO fitted to 2,000 comparisons (the tied instance, V = 4, seed 0) against its frozen oracle; the loss under shifts",
    expects="holds",
)
def distillation_minimised() -> Finding:
    """The fitted student differs from the oracle by a constant, and a shift of it changes nothing."""
    settings = Settings(objectives.get("drdo"), rule="fixed", options=Options(ridge=0.0))
    task = make_task(FAIR_PAIR, draw_data(FAIR_PAIR, 2_000, 0), settings)
    outcome = solve(FAIR_PAIR, task, settings)
    (oracle,) = task.rewards(settings.objective)
    assert oracle is not None
    assert outcome.student is not None
    apart = outcome.student[0, 0] - oracle[0, 0].numpy()
    spread, blind = float(np.ptp(apart)), "student_reward" in settings.objective.margins
    evidence = {
        "spread_of_student_minus_oracle": error(spread, 1e-6),
        "spread_of_the_oracle": float(np.ptp(oracle[0, 0].numpy())),
        "loss_reads_the_student_as_a_margin": blind,
    }
    return judged(spread < 1e-6 and blind, evidence)

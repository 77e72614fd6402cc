"""Where gradient flow from the reference policy goes: the minimiser that training would pick."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp

from paper_checks.drdo.comparisons import hyper_of
from theory.errors import UserError
from theory.instances.tabular import Array
from theory.objectives import Objective
from theory.solvers.tabletask import TableTask


def gradient_flow(
    objective: Objective,
    task: TableTask,
    times: Sequence[float],
    *,
    reward: Sequence[float] | None = None,
    **values: float,
) -> Array:
    """log π at ``times`` of dθ/dt = −∇L(θ), θ the policy's parameters (logits on a table), from π_ref at t = 0.

    Integrated in log(1 + t), in which a drain is a straight line, by a stiff solver (LSODA) with
    the exact Hessian. One data set of one context.

    Args:
        times: increasing, positive; may be as large as 1e15.
        reward: a fixed reward of shape (V,), for the objectives that read one.
        values: hyperparameters.

    Returns:
        Log-probabilities, shape (times, V), nats.

    Raises:
        UserError: the integration failed.
    """
    fixed = None if reward is None else torch.tensor(reward, dtype=torch.float64).reshape(1, 1, -1)
    problem = task.problem(objective, hyper_of(objective, **values), fixed)

    def slope(s: float, theta: Array) -> Array:
        return -np.exp(s) * problem.evaluate(torch.from_numpy(theta)[None])[1][0].numpy()

    def jacobian(s: float, theta: Array) -> Array:
        return -np.exp(s) * problem.evaluate(torch.from_numpy(theta)[None])[2][0].numpy()

    start = problem.start(task.log_ref.reshape(1, 1, -1))[0].numpy()
    at = np.log1p(times)
    found = solve_ivp(slope, (0.0, at[-1]), start, method="LSODA", t_eval=at, jac=jacobian, rtol=1e-7, atol=1e-9)
    if not found.success:
        raise UserError("gradient flow", None, found.message)
    tables = [problem.tables(torch.from_numpy(theta)[None])["policy"][0, 0].numpy() for theta in found.y.T]
    return np.array(tables)

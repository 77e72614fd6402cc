"""Sweeps of the tabular simulator as tidy tables: what figures against n are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from figures.words import Share

if TYPE_CHECKING:
    import pandas as pd

    from theory.instances.tabular import Array

TIED = "drdo (tied)"
# A floor below this (nats) is 0 to the precision of the solvers.
ZERO = 1e-9
COLUMNS = ["method", "n", "seed", "forward_kl", "beta", "finite"]


def sweep(methods: Sequence[str], sizes: Sequence[float], seeds: int) -> pd.DataFrame:
    """Forward KL (nats) of methods at the best value of what each one tunes, on the instance of unified App. D.1.

    Args:
        methods: names; ``NAME (tied)`` is the method with its reward head tied to the policy.
        sizes: comparisons in a data set; n = ∞, the population, is always added.
        seeds: data sets at each size.

    Returns:
        One row a method, n and data set, and a constant column ``limit``: c of the Cramér–Rao limit c/n.
    """
    import pandas as pd

    from theory import objectives
    from theory.instances import random_instance
    from theory.simulation import Settings
    from theory.solvers.options import Options
    from theory.statistics.efficiency import asymptotic_constant
    from theory.sweeps.plan import Plan
    from theory.sweeps.run import compute

    tied = Options(reward_head="tied")
    settings = tuple(
        Settings(objectives.get(method_of(name)), options=tied if method_of(name) != name else Options()) for name in methods
    )
    instance = random_instance(0)
    rows = pd.DataFrame(compute(Plan(instance, settings, tuple(sizes), seeds, 0)))
    rows["method"] = rows["method"].where(rows["reward_head"] == "separate", rows["method"] + " (tied)")
    return rows[COLUMNS].assign(limit=asymptotic_constant(instance)).reset_index(drop=True)


def share(constant: float, n: float, errors: Array) -> Share:
    """The efficiency at the mean forward KL of data sets, with its 95% interval.

    The mean error, not the mean of its inverse, is what the Cramér–Rao limit bounds.
    """
    from theory.statistics.efficiency import efficiency
    from theory.statistics.rates import mean

    error = mean(errors)
    return Share(*(efficiency(constant, n, kl) for kl in (error.value, error.high, error.low)))


def method_of(label: str) -> str:
    """The registered name behind a label."""
    return label.removesuffix(" (tied)")

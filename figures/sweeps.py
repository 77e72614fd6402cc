"""Sweeps of the tabular simulator as tidy tables: what figures against n are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

TIED = "drdo (tied)"
COLUMNS = ["method", "n", "seed", "forward_kl", "beta", "finite"]


def sweep(methods: Sequence[str], sizes: Sequence[float], seeds: int, seed: int = 0) -> pd.DataFrame:
    """Forward KL (nats) of methods at the best value of what each one tunes, on the instance of unified App. D.1.

    Args:
        methods: names; ``NAME (tied)`` is the method with its reward head tied to the policy.
        sizes: comparisons in a data set; n = ∞, the population, is always added.
        seeds: data sets at each size.
        seed: of the data.

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
    bare = [name.removesuffix(" (tied)") for name in methods]
    settings = tuple(
        Settings(objectives.get(plain), options=tied if plain != name else Options())
        for name, plain in zip(methods, bare, strict=True)
    )
    instance = random_instance(0)
    rows = pd.DataFrame(compute(Plan(instance, settings, tuple(sizes), seeds, seed)))
    rows["method"] = rows["method"].where(rows["reward_head"] == "separate", rows["method"] + " (tied)")
    return rows[COLUMNS].assign(limit=asymptotic_constant(instance)).reset_index(drop=True)


def method_of(label: str) -> str:
    """The registered name behind a label."""
    return label.removesuffix(" (tied)")

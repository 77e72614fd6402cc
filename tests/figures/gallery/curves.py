"""A made-up table of curves, as `llm curves` writes them, whose numbers are easy to name."""

from pathlib import Path

import pandas as pd

REFERENCE, TARGET, WINNERS = -4.0, -4.1, -3.5
SEEDS, STEPS, TEMPERATURES = (0, 1, 2), (0, 1, 3), (0.5,)
# What each method adds a step: oracle reward, accuracy, log-probability of chosen and of rejected.
SLOPES = {"sft": (0.1, 0.01, 0.05, -0.10), "dpo": (0.3, 0.05, 0.02, -0.30), "drdo": (0.2, 0.04, 0.04, -0.20)}
# Forward KL at every step.
DISTANCES = {"sft": 0.3, "dpo": 0.2, "drdo": 0.1}
# What a data set adds to the oracle reward.
SHIFTS = {0: -0.02, 1: 0.0, 2: 0.05}


def reward(method: str, seed: int, step: int, temperature: float = 1.0, slopes: dict = SLOPES) -> float:
    """The oracle reward of a row."""
    return REFERENCE + slopes[method][0] * step + (SHIFTS[seed] if step else 0) * (method != "sft") + (1 - temperature)


def _row(method: str, policy: str, seed: int, step: int, temperature: float, values: tuple[float, ...]) -> dict:
    names = ("oracle_reward", "accuracy", "chosen_logp", "rejected_logp", "forward_kl")
    given = {"method": method, "policy": policy, "n": 1000, "seed": seed, "step": step, "temperature": temperature}
    return given | dict(zip(names, values, strict=True))


def rows(slopes: dict = SLOPES) -> pd.DataFrame:
    """The whole table."""
    found = []
    for method, (_, accuracy, chosen, rejected) in slopes.items():
        for seed in SEEDS:
            for step in STEPS:
                values = (0.5 + accuracy * step, -3.7 + chosen * step, -4.7 + rejected * step, DISTANCES[method])
                found.append(_row(method, "trained", seed, step, 1.0, (reward(method, seed, step, 1.0, slopes), *values)))
            for temperature in TEMPERATURES:
                values = (0.7, -3.0, -4.0, 0.9)
                found.append(
                    _row(method, "trained", seed, 3, temperature, (reward(method, seed, 3, temperature, slopes), *values))
                )
            for policy, level in {"target": TARGET, "reference": REFERENCE, "winners": WINNERS}.items():
                found.append(_row(method, policy, seed, 3, 1.0, (level, 0.75, -4.0, -5.0, 0.4)))
    return pd.DataFrame(found)


def write(folder: Path, table: pd.DataFrame | None = None) -> str:
    """The table in a folder of results."""
    (rows() if table is None else table).to_parquet(folder / "curves.parquet")
    return str(folder)

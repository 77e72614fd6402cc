"""What curves end at, by method: means over data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from llm.curves.follow import TRAINED
from llm.curves.measures import Measures

NAMES = tuple(Measures.__dataclass_fields__)


def ends(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mean `Measures` at the last step at temperature 1, and the oracle reward's advantage over the reference, nats.

    Methods come first, in the order of the rows, then the policies that need no training.
    """
    last: dict[str, list[Mapping[str, Any]]] = {}
    known: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["policy"] != TRAINED:
            known.setdefault(row["policy"], []).append(row)
        elif row["temperature"] == 1:
            runs = last.setdefault(row["method"], [])
            runs[:] = [run for run in runs if run["seed"] != row["seed"]] + [row]  # rows are in the order of the steps
    found = [_mean(name, group) for name, group in {**last, **known}.items()]
    (reference,) = (one["oracle_reward"] for one in found if one["policy"] == "reference")
    return [{**one, "oracle_advantage": one["oracle_reward"] - reference} for one in found]


def _mean(policy: str, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {"policy": policy, "step": rows[0]["step"], **{name: float(np.mean([row[name] for row in rows])) for name in NAMES}}

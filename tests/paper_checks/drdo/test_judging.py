"""Win rates and advantages against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from paper_checks.drdo import judging
from theory.statistics.rates import Interval


def test_win_rate_by_enumeration() -> None:
    rng = np.random.default_rng(0)
    first, second = (p / p.sum() for p in rng.random((2, 4)))
    scores, others = rng.integers(0, 3, size=(2, 4)).astype(float)
    wanted = sum(
        first[i] * second[j] * (1.0 if scores[i] > others[j] else 0.5 if scores[i] == others[j] else 0.0)
        for i, j in itertools.product(range(4), repeat=2)
    )
    assert judging.win_rate(first, second, scores, others) == pytest.approx(wanted)


def test_an_honest_teacher_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = {"true advantage": Interval(0.1, 0.05, 0.15), "added by its teacher": Interval(0.01, -0.02, 0.04)}
    monkeypatch.setattr(judging, "advantages", lambda n: {**honest, "added by a fresh oracle": Interval(0.0, -0.01, 0.01)})
    assert judging.oracle_judge().verdict == "holds"

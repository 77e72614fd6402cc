"""Structure on all comparisons of four responses, against linear programs and hand counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from paper_checks.drdo import complement, distilled
from paper_checks.drdo.graphs import VOCAB, all_graphs, drained, has_unbeaten_cycle, kinds, leads_to_cycle, reachable
from theory import objectives

GRAPHS = all_graphs()


def graph(*edges: tuple[int, int]) -> np.ndarray:
    wins = np.zeros((1, VOCAB, VOCAB), dtype=bool)
    for edge in edges:
        wins[(0, *edge)] = True
    return wins


def test_every_graph_once() -> None:
    assert len(GRAPHS) == 4**6
    assert len(np.unique(GRAPHS.reshape(len(GRAPHS), -1), axis=0)) == 4**6
    assert not GRAPHS[:, range(VOCAB), range(VOCAB)].any()


def test_reachable_by_powers() -> None:
    sample = GRAPHS[::37].astype(int)
    powers = sum(np.linalg.matrix_power(sample, k) for k in range(1, VOCAB + 1))
    assert (reachable(sample.astype(bool)) == (powers > 0)).all()


@pytest.mark.parametrize(
    ("edges", "unbeaten", "leads"),
    [
        ([(0, 1), (1, 2), (2, 0)], True, False),
        ([(0, 1), (1, 2), (2, 0), (3, 0)], False, True),
        ([(0, 1), (1, 0), (2, 3)], True, False),
        ([(0, 1), (1, 2), (2, 3)], False, False),
        ([(0, 1), (1, 0), (2, 0), (3, 2)], False, True),
    ],
)
def test_cycles_by_hand(edges: list[tuple[int, int]], unbeaten: bool, leads: bool) -> None:
    assert has_unbeaten_cycle(graph(*edges))[0] == unbeaten
    assert leads_to_cycle(graph(*edges))[0] == leads


def farthest(wins: np.ndarray, up: int, down: int) -> float:
    """The most that ``up`` can rise over ``down`` along a direction in which no winner falls behind its loser."""
    rows = [np.eye(VOCAB)[j] - np.eye(VOCAB)[i] for i, j in np.argwhere(wins)]
    cost = np.eye(VOCAB)[down] - np.eye(VOCAB)[up]
    found = linprog(cost, A_ub=rows or None, b_ub=np.zeros(len(rows)) if rows else None, bounds=[(-1, 1)] * VOCAB)
    return -found.fun


def drains(wins: np.ndarray) -> list[bool]:
    """Responses tied in every such direction to one that a winner can leave behind: what Bradley–Terry drains."""
    left = {j for i, j in np.argwhere(wins) if farthest(wins, i, j) > 1e-6}
    tied = [[max(farthest(wins, i, j), farthest(wins, j, i)) < 1e-6 for j in range(VOCAB)] for i in range(VOCAB)]
    return [any(tied[i][j] or i == j for j in left) for i in range(VOCAB)]


def test_drained_by_linear_programs() -> None:
    sample = GRAPHS[np.random.default_rng(0).choice(len(GRAPHS), 20, replace=False)]
    found = drained(objectives.get("dpo"), sample, beta=0.1)
    assert found.tolist() == [drains(wins) for wins in sample]


def test_kinds_divide_the_graphs() -> None:
    masks = list(kinds(GRAPHS).values())
    assert (np.sum(masks, axis=0) == 1).all()
    # Tournaments with gaps on four nodes: 3⁶ one-way graphs, 543 of them acyclic; disjoint: 1 + 6·2 + 3·4.
    assert [int(m.sum()) for m in masks[:2]] == [25, 543 - 25]
    assert int(sum(m.sum() for m in masks[:3])) == 3**6


@pytest.mark.parametrize(
    ("edges", "exists"),
    [
        ([(0, 1), (2, 3)], True),
        ([(0, 1), (1, 2)], True),
        ([(0, 1), (1, 2), (0, 2)], False),
        ([(0, 1), (1, 0)], False),
        ([(0, 1), (0, 2), (3, 1), (3, 2)], True),
    ],
)
def test_one_reward_for_all_margins(edges: list[tuple[int, int]], exists: bool) -> None:
    assert distilled.agreeing_reward(graph(*edges)[0]) is exists


def test_overlap_check_notices_a_wrong_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complement, "has_unbeaten_cycle", lambda wins: np.zeros(len(wins), dtype=bool))
    assert complement.overlapping_pairs().verdict == "fails"

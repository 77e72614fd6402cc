"""Arithmetic on the printed tables against enumeration and hand sums; other numbers give other verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from paper_checks.drdo import rewards_table, setup, tables


@pytest.mark.parametrize("row", [*tables.E_DPO, *tables.DPO, *tables.GOLD, *tables.ALPACA])
def test_judgements_by_enumeration(row: tables.Row) -> None:
    fitting = [n for n in range(row.wins, 2000) if f"{100 * row.wins / n:.2f}" == f"{row.rate:.2f}"]
    assert [row.count] == fitting


def test_no_whole_number_is_said() -> None:
    assert tables.Row("", 10, 33.0, 0).count is None
    assert tables.Row("", 10, 33.0, 0).counted() == 30


def test_binomial_by_summing() -> None:
    row = tables.ALPACA[0]
    tail = sum(binom.pmf(k, 798, 0.5) for k in range(495, 799))
    assert tables.p_value(row) == pytest.approx(2 * tail, rel=1e-6)


def test_gap_by_hand() -> None:
    low, middle, high = tables.gap(tables.Row("", 50, 50.0, 0), tables.Row("", 60, 60.0, 0))
    half = 1.959964 * math.sqrt(0.25 / 100 + 0.24 / 100)
    assert (low, middle, high) == pytest.approx((10 - 100 * half, 10, 10 + 100 * half), rel=1e-5)


def test_ten_missing_in_each_row_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("E_DPO", "DPO", "GOLD"):
        rows = tuple(replace(row, rate=round(100 * row.wins / 990, 2)) for row in getattr(tables, name))
        monkeypatch.setattr(tables, name, rows)
    assert tables.missing_judgements().verdict == "holds"


def test_gold_below_half_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GOLD", tuple(replace(row, wins=1000 - row.wins, rate=100 - row.rate) for row in tables.GOLD))
    assert tables.gold_summaries().verdict == "holds"


def test_one_place_best_in_both_groups_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "DPO", (tables.DPO[1], tables.DPO[0], tables.DPO[2]))
    assert tables.hard_split().verdict == "holds"


def test_a_coin_is_not_significant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "DPO", (tables.Row("", 500, 51.0, 0),))
    assert tables.table_1_significance().verdict == "fails"


def test_layout_of_table_2() -> None:
    rates = rewards_table.rates()
    assert rates.shape == (5, 4, 3)
    # OPT-125M against e-DPO at the second temperature, Phi-3 against DPO at the last.
    assert (rates[0, 1, 2], rates[4, 3, 1]) == (0.50, 0.88)


def test_means_of_table_2_by_hand() -> None:
    evidence = rewards_table.best_entries().evidence["means"]
    assert evidence["OPT-1.3B"] == pytest.approx(9.03 / 12)
    assert evidence["OPT-2.7B"] == pytest.approx(8.89 / 12)
    assert evidence["Phi-3"] == pytest.approx(8.66 / 12)


def test_rank_correlations_by_hand() -> None:
    # 1 − 6 Σd²/(n(n² − 1)): ranks 1 2 4 3 of the OPT family, 1 2 5 4 3 of all.
    evidence = rewards_table.model_size().evidence
    assert evidence["rank_correlation_and_p, OPT"][0] == pytest.approx(1 - 6 * 2 / 60)
    assert evidence["rank_correlation_and_p, all five"][0] == pytest.approx(1 - 6 * 8 / 120)


def test_another_row_would_average_76(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rewards_table.TABLE, "OPT-1.3B", (0.76,) * 12)
    assert rewards_table.row_averages().verdict == "holds"
    monkeypatch.setitem(rewards_table.TABLE, "OPT-1.3B", (0.74,) * 12)
    assert rewards_table.row_averages().verdict == "fails"


def test_rising_gains_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards_table, "rates", lambda: np.linspace(0.5, 0.9, 4)[None, :, None] * np.ones((5, 1, 3)))
    assert rewards_table.temperatures().verdict == "holds"


def test_least_gains_against_sft_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards_table, "rates", lambda: np.broadcast_to([0.55, 0.6, 0.7], (5, 4, 3)))
    assert rewards_table.against_sft().verdict == "holds"


@pytest.mark.parametrize(("name", "value", "check"), [("PER_DEVICE", 8, "effective_batch"), ("MAX_STEPS", 1000, "steps")])
def test_consistent_settings_would_hold(monkeypatch: pytest.MonkeyPatch, name: str, value: int, check: str) -> None:
    assert getattr(setup, check)().verdict == "fails"
    monkeypatch.setattr(setup, name, value)
    assert getattr(setup, check)().verdict == "holds"


def test_the_rest_of_table_5_adds_up_again() -> None:
    low, high = setup.remaining(0)
    sizes = np.array([setup.EASY[2] + setup.EASY[3], setup.HARD[2] + setup.HARD[3]])
    rest = setup.ALL[2] - sizes.sum()
    whole = [(rest * mean + sizes @ [setup.EASY[0], setup.HARD[0]]) / setup.ALL[2] for mean in (low, high)]
    # The half digit of the overall mean, and that of the splits' means by their share.
    slack = 0.005 * (1 + sizes.sum() / setup.ALL[2])
    assert whole == pytest.approx([5.01 - slack, 5.01 + slack], abs=1e-9)


def test_an_impossible_mean_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "ALL", (6.5, *setup.ALL[1:]))
    assert setup.split_means().verdict == "fails"

import math
import re

import pytest

from paper_checks.claims import Verdict
from paper_checks.unified import tables, training

# Lines 126–131 of the text as they are printed: a value and its ± run together.
PRINTED = """
DPO | 47.31.01 | 2.660.03 | 64.350.68 | 55.60.53 | 6.090.02 | 54.450.82
PMLE | 49.11.43 | 2.380.04 | 31.420.79 | 59.00.74 | 6.270.03 | 24.200.92
REBEL | 71.01.26 | 2.860.02 | 25.670.61 | 82.50.93 | 7.640.02 | 29.800.71
Pref. Distill. | 73.81.47 | 2.910.03 | 28.380.82 | 83.90.59 | 7.660.02 | 29.051.02
RLHF | 72.00.67 | 2.950.05 | 24.941.12 | 82.00.92 | 7.850.03 | 24.380.77
Reverse KL | 73.00.93 | 3.030.04 | 25.910.94 | 84.01.01 | 7.770.01 | 24.120.63
"""


def test_table_2_is_as_printed():
    for line in PRINTED.strip().splitlines():
        name, *cells = (part.strip() for part in line.split("|"))
        numbers = []
        for k, cell in enumerate(cells):
            decimals = 1 if k % 3 == 0 else 2  # win-rates have one decimal, every ± has two
            value, spread = re.fullmatch(rf"(\d+\.\d{{{decimals}}})(\d\.\d\d)", cell).groups()
            numbers.append((float(value), float(spread)))
        ours = [(c.value, c.spread) for row in tables.TABLE_2[name] for c in (row.win, row.score, row.kl)]
        assert ours == numbers


def test_difference_by_hand():
    gained, z = tables.difference(tables.Cell(10.0, 3.0), tables.Cell(5.0, 4.0))
    assert (gained, z) == (5.0, 1.0)


def test_binomial_error_by_hand():
    assert tables.binomial_error(50.0, 600) == pytest.approx(100 * math.sqrt(0.25 / 600))
    assert tables.binomial_z(60.0, 50.0, 100) == pytest.approx(10 / math.sqrt(24 + 25))


def test_stouffer_by_hand():
    assert tables.stouffer([1.0, 2.0, 3.0, 2.0]) == 4.0


@pytest.mark.parametrize(("factor", "verdict"), [(10.0, Verdict.HOLDS), (1.0, Verdict.HOLDS_IF), (-1.0, Verdict.FAILS)])
def test_the_verdict_on_win_rates_follows_the_gains(monkeypatch, factor, verdict):
    changed = dict(tables.TABLE_2)
    for ours, base in tables.PAIRS:
        rows = []
        for a, b in zip(tables.TABLE_2[ours], tables.TABLE_2[base], strict=True):
            # Gains are scaled around the baseline, which is halved so that no win-rate leaves 0–100.
            win = tables.Cell(b.win.value / 2 + factor * (a.win.value - b.win.value), a.win.spread)
            rows.append(tables.Row(win, a.score, a.kl))
        changed[ours] = tuple(rows)
        changed[base] = tuple(tables.Row(tables.Cell(b.win.value / 2, b.win.spread), b.score, b.kl) for b in tables.TABLE_2[base])
    monkeypatch.setattr(tables, "TABLE_2", changed)
    assert tables.win_rates().verdict is verdict


def test_equal_divergences_are_not_much_lower(monkeypatch):
    monkeypatch.setattr(tables, "TABLE_2", {**tables.TABLE_2, "PMLE": tables.TABLE_2["DPO"]})
    assert tables.lower_divergence().verdict is Verdict.FAILS
    assert tables.order_of_the_bounds().verdict is Verdict.HOLDS_IF


def test_a_lower_score_on_chat_is_found_out(monkeypatch):
    worse = {**tables.TABLE_3, "PMLE": (8.30, 53.23, 43.00, 46.5)}
    monkeypatch.setattr(tables, "TABLE_3", worse)
    assert tables.chat_benchmarks().verdict is Verdict.FAILS


def test_summed_rate_is_the_sum_of_a_linear_decay():
    steps = 1000
    summed = sum(2e-6 * (1 - k / steps) for k in range(steps))
    assert training.summed_rate(64_000, 64, 2e-6) == pytest.approx(summed, rel=2e-3)


def test_one_split_is_a_power_of_ten_away():
    finding = training.split_sizes()
    assert list(finding.counterexample) == ["valid"]
    assert finding.evidence["which_is_83,802 + 2,284_CNN/DM"]

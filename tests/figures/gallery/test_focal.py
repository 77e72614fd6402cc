"""The focal term and DPO's loss against their formulas, where digits end, and the picture read back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from figures.build import render
from figures.gallery.focal import CURVE, FIGURE, FORMAT, LENGTH, SCALE, ZERO, Config

CONFIG = Config(points=25)
# Bits of the significand, the leading one included.
BITS = {"float64": 53, "float32": 24, "bfloat16": 8}


@pytest.fixture(scope="module")
def table():
    return FIGURE.data(CONFIG)


def formula(term, gamma_f, margin, mass):
    """The loss of π_w = mass·p and π_l = mass·(1 − p), p = σ(margin), as it is written in the papers."""
    p = 1 / (1 + np.exp(-margin))
    if term == "dpo":
        return -np.log(p)
    return -((1 - p) ** gamma_f) * np.log(mass * p / (1 - mass * (1 - p)))


def test_losses_are_the_formulas_and_pulls_their_differences(table):
    step = 1e-5
    for (term, exponent), rows in table[table["part"] == CURVE].groupby(["term", "gamma_f"], dropna=False):
        margin = rows["margin"].to_numpy()
        assert rows["loss"].to_numpy() == pytest.approx(formula(term, exponent, margin, CONFIG.mass), rel=1e-10, abs=1e-14)
        ahead, behind = (formula(term, exponent, margin + sign * step, CONFIG.mass) for sign in (1, -1))
        assert rows["pull"].to_numpy() == pytest.approx((behind - ahead) / (2 * step), abs=1e-8)
        assert rows["p_w"].to_numpy() == pytest.approx(1 / (1 + np.exp(-margin)), rel=1e-12)


def test_every_exponent_and_dpo_has_its_curve(table):
    found = table[table["part"] == CURVE].groupby(["term", "gamma_f"], dropna=False).size()
    assert set(found.index.get_level_values("term")) == {"dpo", "drdo"}
    assert found["drdo"].to_dict() == dict.fromkeys(CONFIG.exponents, CONFIG.points)


def test_at_sequence_scale_the_focal_pull_is_what_its_derivative_says(table):
    rows = table[(table["part"] == SCALE) & (table["term"] == "drdo")]
    exponent, probability = rows["gamma_f"], np.exp(-rows["level"])
    # At p_w = ½: the simplified gradient of A.5, and the term that it leaves out.
    kept = 0.5**exponent * (0.5 - 0.5 * probability / (1 - probability))
    dropped = exponent * 0.5 ** (exponent + 1) * np.log((1 - probability) / probability)
    assert rows["pull"].to_numpy() == pytest.approx((kept + dropped).to_numpy(), rel=1e-9)


def test_the_unlikelihood_is_lost_where_it_falls_below_half_a_unit_in_the_last_place(table):
    zeros = table[table["part"] == ZERO].set_index("term")["level"]
    assert set(zeros.index) == set(BITS)
    for name, level in zeros.items():
        half = 2.0 ** (np.floor(np.log2(level)) - BITS[name])
        assert np.exp(-level) == pytest.approx(half, rel=0.03)
        seen = table[(table["part"] == FORMAT) & (table["term"] == name)]
        assert (seen.loc[seen["level"] > level, "change"] == 0).all()
        assert (seen.loc[seen["level"] < level, "change"] > 0).all()


def test_the_picture_holds_the_curves_the_losses_of_digits_and_the_lengths(table):
    panels = render(FIGURE, table).axes
    curves, scale = table[table["part"] == CURVE], table[table["part"] == SCALE]
    shown = ((0, curves, "margin", "loss"), (1, curves, "p_w", "loss"), (3, curves, "margin", "pull"), (4, curves, "p_w", "pull"))
    for panel, rows, x, y in (*shown, (5, scale, "level", "pull")):
        lines = {line.get_label(): line for line in panels[panel].lines}
        for (term, exponent), curve in rows.groupby(["term", "gamma_f"], dropna=False):
            line = lines["DPO" if term == "dpo" else f"$γ_f = {exponent:g}$"]
            assert np.array_equal(line.get_xydata(), curve[[x, y]].to_numpy())
    lines = {line.get_label(): line for line in panels[2].lines}
    zeros = table[table["part"] == ZERO].set_index("term")["level"]
    for name, rows in table[table["part"] == FORMAT].groupby("term"):
        assert np.array_equal(lines[name].get_xydata(), rows.loc[rows["change"] > 0, ["level", "change"]].to_numpy())
        assert any(text.get_text() == f"{name}:\n0 from\n{zeros[name]:.3g} nats" for text in panels[2].texts)
    lengths = table[table["part"] == LENGTH]
    for panel in (panels[2], panels[5]):
        upright = {line.get_xdata()[0] for line in panel.lines if len(set(line.get_xdata())) == 1}
        assert set(lengths["level"]) <= upright
    assert set(lengths["term"]) <= {text.get_text() for text in panels[2].texts}


def test_the_caption_says_what_the_data_show(table):
    text = FIGURE.caption(table)
    assert text.count(". ") == 1
    assert "pulls less than DPO at every γf: at most 0.44 against 0.50." in text
    assert "For 50 tokens at 2 nats its log(1 − π(y_l)) changes nothing even in float64" in text
    # ½ of the weight, ½ of p_w and 100 nats, both signs of the margin's two halves: γf ½^{γf+1}·100 + ½^{γf+1}
    assert "with up to 25 against DPO's 0.50" in text


def test_the_caption_of_other_data_says_otherwise(table):
    stronger = table.copy()
    stronger.loc[stronger["gamma_f"] == 2, "pull"] *= 3
    assert "more than DPO at some γf: " in FIGURE.caption(stronger)
    later = table.copy()
    later.loc[later["part"] == ZERO, "level"] *= 10
    assert "changes something still, and" in FIGURE.caption(later)


def test_a_table_survives_being_stored(table, tmp_path):
    table.to_parquet(tmp_path / "table.parquet")
    assert FIGURE.caption(pd.read_parquet(tmp_path / "table.parquet")) == FIGURE.caption(table)

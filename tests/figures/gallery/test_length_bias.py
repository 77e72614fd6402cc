"""Means over worlds against another library's intervals, the picture read back, and captions of made-up tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from figures.build import render
from figures.gallery.length_bias import AGAINST, CHANGE, FIGURE, MEAN, SUBSETS, WORLD, Config
from paper_checks.distillation.notes import BETAS, TAUS

CONFIG = Config(rhos=(0.2, 0.5, 0.8), methods=("dpo", "ipo", "d-dpo"), seeds=(100, 3))


@pytest.fixture(scope="module")
def table():
    return FIGURE.data(CONFIG)


def worlds_of(table):
    """Advantages, a row a world and a column a (method, ρ)."""
    return table[table["part"] == WORLD].pivot(index="seed", columns=["method", "rho"], values="value")


def same(row, differences):
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return row[["value", "low", "high"]].tolist() == pytest.approx([differences.mean(), low, high], rel=1e-9)


def test_means_and_intervals_are_those_of_the_worlds(table):
    worlds = worlds_of(table)
    for row in table[table["part"] == MEAN].itertuples():
        assert same(pd.Series(row._asdict()), worlds[row.method, row.rho])
    for method in ("ipo", "d-dpo"):
        rows = table[(table["part"] == AGAINST) & (table["method"] == method)].set_index("rho")
        for rho in CONFIG.rhos:
            assert same(rows.loc[rho], worlds[method, rho] - worlds["dpo", rho])
    assert (table.loc[(table["part"] == AGAINST) & (table["method"] == "dpo"), ["value", "low", "high"]] == 0).all(axis=None)


def test_small_less_large_leaves_the_middle_out(table):
    worlds = worlds_of(table)
    change = table[table["part"] == CHANGE].set_index("method")
    for method in CONFIG.methods:
        assert same(change.loc[method], worlds[method, 0.2] - worlds[method, 0.8])


def test_every_world_has_a_value_of_the_papers_sweeps(table):
    rows = table[table["part"] == WORLD]
    assert len(rows) == 3 * len(CONFIG.rhos) * len(CONFIG.methods)
    assert set(rows.loc[rows["method"] == "ipo", "hyper"]) <= set(TAUS)
    assert set(rows.loc[rows["method"] != "ipo", "hyper"]) <= set(BETAS)
    assert (rows["uncertified"] == 0).all()


def made_up(against: dict[str, float], change: dict[str, float], half: float = 0.01) -> pd.DataFrame:
    """A table with these differences from DPO at ρ = 0.2, and changes over ρ; every interval ± ``half``."""
    rows = []
    for method, difference in against.items():
        for rho in (0.2, 0.8):
            value = difference if rho == 0.2 else 0.0
            rows += [(MEAN, method, rho, 1.0 + value), (AGAINST, method, rho, value)]
        rows.append((CHANGE, method, np.nan, change[method]))
    table = pd.DataFrame(rows, columns=["part", "method", "rho", "value"])
    table["low"], table["high"] = table["value"] - half, table["value"] + half
    worlds = pd.DataFrame([{"part": WORLD, "method": "dpo", "rho": 0.2, "value": 1.0, "seed": seed} for seed in (1, 2)])
    return pd.concat([table, worlds], ignore_index=True)


def test_the_caption_sorts_methods_by_their_intervals():
    against = {"dpo": 0.0, "ipo": -0.1, "d-dpo": 0.001, SUBSETS: 0.2}
    change = {"dpo": -0.1, "ipo": -0.2, "d-dpo": 0.005, SUBSETS: 0.3}
    text = FIGURE.caption(made_up(against, change))
    assert text.count(". ") == 1
    assert text.startswith(
        "Where 20% of labels prefer the longer response, e-DPO (subsets) beats DPO by 0.20 sd and IPO trails it"
    )
    assert "trails it by 0.10 sd in oracle reward." in text
    assert "holds for 2 of 4 methods on 2 worlds of our tabular twin." in text
    several = FIGURE.caption(made_up({"dpo": 0.0, "ipo": -0.1, "d-dpo": -0.3}, dict.fromkeys(("dpo", "ipo", "d-dpo"), -0.1)))
    assert "IPO and d-DPO trail DPO by up to 0.30 sd" in several
    assert "holds for all 3 methods" in several


def test_the_caption_does_not_agree_with_the_paper_where_the_data_do_not():
    text = FIGURE.caption(made_up({"dpo": 0.0, "ipo": 0.0}, {"dpo": 0.1, "ipo": 0.1}))
    assert "no method surely differs from DPO" in text
    assert "holds for none of 2 methods" in text


def test_the_picture_holds_the_means_and_their_bands(table):
    for panel, part in zip(render(FIGURE, table).axes, (MEAN, AGAINST), strict=True):
        lines = {line.get_label(): line for line in panel.lines}
        bands = [collection.get_paths()[0].vertices for collection in panel.collections]
        assert len(bands) == len(CONFIG.methods)
        for method, band in zip(CONFIG.methods, bands, strict=True):
            rows = table[(table["part"] == part) & (table["method"] == method)]
            assert np.array_equal(lines[method].get_xydata(), rows[["rho", "value"]].to_numpy())
            assert {*rows["low"], *rows["high"]} <= set(band[:, 1])
        assert set(CONFIG.methods) <= {text.get_text() for text in panel.texts}
        assert any(set(line.get_ydata()) == {0} for line in panel.lines)
    assert render(FIGURE, table).axes[0].get_ylim()[0] == 0

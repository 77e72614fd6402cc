"""Forward KL against n: limits by formula, what is drawn and said."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from figures.build import render
from figures.gallery.kl_against_n import FIGURE, Config
from figures.sweeps import TIED, sweep
from tests.figures.gallery import closed_forms

METHODS = ("rlhf", "dpo", "rkl")


@pytest.fixture(scope="module")
def data():
    return FIGURE.data(Config(METHODS, (4, 8, 2), 12))


def _floors(data):
    return data[np.isinf(data["n"])].set_index("method")["forward_kl"]


def test_floors_and_limit_by_formula(data):
    floors = _floors(data)
    assert floors["rlhf"] == pytest.approx(closed_forms.rlhf_floor(), rel=1e-5)
    assert floors["dpo"] == pytest.approx(closed_forms.rlhf_floor(), rel=1e-5)
    assert floors["rkl"] == pytest.approx(0, abs=1e-12)
    assert data["limit"].unique() == pytest.approx(closed_forms.cramer_rao())


def test_rkl_falls_like_one_over_n_and_rlhf_does_not(data):
    means = data.groupby(["method", "n"])["forward_kl"].mean()
    assert means["rkl", 1e8] == pytest.approx(closed_forms.cramer_rao() / 1e8, rel=0.2)
    assert means["rlhf", 1e8] == pytest.approx(closed_forms.rlhf_floor(), rel=1e-3)
    assert data.groupby("method").size().to_dict() == dict.fromkeys(METHODS, 3 * 12 + 1)


def test_a_tied_head_is_a_curve_of_its_own():
    found = sweep(["drdo", TIED], [1e6], 1)
    floors = _floors(found)
    assert list(floors.index) == ["drdo", TIED]
    assert floors[TIED] < floors["drdo"] / 100


def test_the_picture_holds_the_table(data):
    (panel,) = render(FIGURE, data).axes
    lines = {line.get_label(): line for line in panel.lines}
    finite = data[np.isfinite(data["n"])]
    for method, rows in finite.groupby("method"):
        means = rows.groupby("n")["forward_kl"].mean()
        assert lines[method].get_xdata() == pytest.approx(means.index)
        assert lines[method].get_ydata() == pytest.approx(means)
    limit = lines["Cramér–Rao limit"]
    assert limit.get_ydata() * limit.get_xdata() == pytest.approx(closed_forms.cramer_rao())
    dotted = [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx(_floors(data)[["rlhf", "dpo"]])
    assert {text.get_text() for text in panel.texts} >= set(METHODS)
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")


def test_bands_are_percentiles_of_the_data_sets(data):
    (panel,) = render(FIGURE, data).axes
    rows = data[(data["method"] == "rlhf") & (data["n"] == 1e4)]["forward_kl"]
    heights = panel.collections[0].get_paths()[0].vertices
    assert sorted(set(heights[np.isclose(heights[:, 0], 1e4), 1])) == pytest.approx(np.percentile(rows, [10, 90]))


def test_curves_that_coincide_take_turns_and_others_are_whole(data):
    (panel,) = render(FIGURE, data).axes
    whole = {line.get_label(): not line.is_dashed() for line in panel.lines}
    assert (whole["rlhf"], whole["dpo"], whole["rkl"]) == (False, False, True)


def test_the_caption_says_who_reaches_the_target_at_what_share(data):
    text = FIGURE.caption(data)
    end = data[(data["method"] == "rkl") & (data["n"] == 1e8)]["forward_kl"]
    share = closed_forms.cramer_rao() / (1e8 * end.mean())
    half = stats.t.ppf(0.975, len(end) - 1) * stats.sem(end) / end.mean()
    assert abs(1 - share) < half  # so that the limit is within the interval
    assert text.startswith("RKL reaches the target at the Cramér–Rao limit for 1e8 comparisons, within a sampling error of ")
    assert f"RLHF and DPO at {closed_forms.rlhf_floor():.2g} nats" in text
    assert text.count(". ") == 1
    assert text.endswith(".")


def _table(errors, floors):
    """Two data sets at n = 100 whose mean error is given, and the floors."""
    rows = [(m, 100.0, seed, error * (0.99, 1.01)[seed]) for m, error in errors.items() for seed in (0, 1)]
    rows += [(m, np.inf, 0, floor) for m, floor in floors.items()]
    return pd.DataFrame(rows, columns=["method", "n", "seed", "forward_kl"]).assign(limit=1.0)


def test_shares_that_differ_are_both_said():
    text = FIGURE.caption(_table({"rkl": 0.01, "pmle": 0.02}, {"rkl": 0.0, "pmle": 0.0}))
    assert "RKL and PMLE reach the target at 50% to 100% (± " in text
    assert "None of them has a floor" in text


def test_the_caption_notices_that_nobody_reaches_the_target():
    text = FIGURE.caption(_table({"rkl": 0.01, "pmle": 0.02}, {"rkl": 0.3, "pmle": 0.4}))
    assert text.startswith("None of these methods reaches the target.")
    assert "They stop however much they see and however well they are tuned: RKL at 0.30 and PMLE at 0.40 nats" in text

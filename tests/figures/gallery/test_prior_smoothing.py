"""Prior smoothing against softmaxes written out by hand, and the picture read back."""

from __future__ import annotations

import numpy as np
import pytest

from figures.build import render
from figures.gallery.prior_smoothing import FIGURE, HEIGHT, Config, second

CONFIG = Config(betas=(2.0, -2.0, 9))


@pytest.fixture(scope="module")
def table():
    return FIGURE.data(CONFIG)


def softmax(logits):
    weights = np.exp(logits - np.max(logits))
    return weights / weights.sum()


def rkl(reference, reward, alpha, beta):
    return softmax((reward + beta * np.log(reference)) / (alpha + beta))


def rlhf(reference, reward, beta):
    return softmax(np.log(reference) + reward / beta)


def test_paths_on_the_simplex_are_the_closed_forms(table):
    reference, reward = np.array(CONFIG.reference), np.array(CONFIG.reward)
    rows = table[table["part"] == "simplex"]
    assert len(rows) == 9 * (1 + len(CONFIG.alphas))
    for _, row in rows.iterrows():
        expected = rlhf(reference, reward, row["beta"])
        if row["curve"] == "rkl":
            expected = rkl(reference, reward, row["alpha"], row["beta"])
        assert row[["p0", "p1", "p2"]].to_list() == pytest.approx(expected, rel=1e-9, abs=1e-15)
        # In the plane the policy is the centre of gravity of the corners.
        corners = np.array([[0, 0], [1, 0], [0.5, HEIGHT]])
        assert row[["x", "y"]].to_list() == pytest.approx(expected @ corners, abs=1e-12)


def test_the_larger_policies_and_their_priors(table):
    reference, reward = second(CONFIG)
    alpha, beta = CONFIG.shown
    curves = {
        "rlhf": rlhf(reference, reward, alpha + beta),
        "rkl": rkl(reference, reward, alpha, beta),
        "rlhf prior": reference,
        "rkl prior": softmax(beta / (alpha + beta) * np.log(reference)),
    }
    rows = table[table["part"] == "policy"]
    for curve, expected in curves.items():
        assert rows.loc[rows["curve"] == curve, "probability"].to_list() == pytest.approx(expected, rel=1e-9)


def test_gains_are_a_power_of_the_reference_at_one_temperature_and_of_rlhf_at_one_beta(table):
    reference, reward = second(CONFIG)
    gains = table[table["part"] == "gain"]
    for (alpha, beta), rows in gains.groupby(["alpha", "beta"]):
        tempered, equal = (rows.loc[rows["curve"] == c, "gain"].to_numpy() for c in ("same α + β", "same β"))
        assert np.diff(tempered) == pytest.approx(-alpha / (alpha + beta) * np.diff(np.log(reference)), rel=1e-8)
        power = (beta / (alpha + beta) - 1) * np.diff(np.log(rlhf(reference, reward, beta)))
        assert np.diff(equal) == pytest.approx(power, rel=1e-8)
        assert rows.loc[rows["curve"] == "same α + β", "rarer"].all()
        assert (rows["rarer"].to_numpy()[-1]) == bool((np.diff(equal) > 0).all())


def test_the_picture_holds_the_table(table):
    simplex, policy, gain = render(FIGURE, table).axes
    lines = {line.get_label(): line for line in simplex.lines}
    for alpha in CONFIG.alphas:
        path = table[(table["part"] == "simplex") & (table["curve"] == "rkl") & (table["alpha"] == alpha)]
        assert np.array_equal(lines[f"rkl, α = {alpha:g}"].get_xydata(), path[["x", "y"]].to_numpy())
    drawn = {line.get_label(): line.get_ydata() for line in policy.lines}
    for curve, rows in table[table["part"] == "policy"].groupby("curve"):
        assert np.array_equal(drawn[curve], rows["probability"])
    drawn = {line.get_label(): line for line in gain.lines}
    for (curve, alpha, beta), rows in table[table["part"] == "gain"].groupby(["curve", "alpha", "beta"]):
        assert np.array_equal(drawn[f"{curve} {alpha:g} {beta:g}"].get_xydata(), rows[["reference", "gain"]].to_numpy())
    assert gain.xaxis_inverted()
    assert policy.get_yscale() == "log"


def test_the_caption_counts_what_the_data_show(table):
    text = FIGURE.caption(table)
    assert text.count(". ") == 1
    assert text.endswith(".")
    assert f"under π_ref in all {len(CONFIG.pairs)} settings" in text
    reference, reward = second(CONFIG)
    most = max(np.log(rkl(reference, reward, a, b) / rlhf(reference, reward, a + b))[-1] for a, b in CONFIG.pairs)
    assert f"up to {np.exp(most):.2g} times at π_ref = " in text
    broken = table.assign(rarer=table["rarer"].where(table["alpha"] != CONFIG.pairs[0][0], False))
    assert f"in {len(CONFIG.pairs) - 1} of {len(CONFIG.pairs)} settings, up to" in FIGURE.caption(broken)

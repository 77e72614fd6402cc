"""Error against coverage: the limits of both classes, estimates made by hand, and the picture read back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from figures.build import render
from figures.gallery.coverage import CURVES, EQUAL, FIGURE, SMALLER, Config, Curve, errors
from figures.words import short
from paper_checks.unified.reward_class import instance_at
from theory.sampling import draw
from theory.statistics.coverage import coverage_table

CONFIG = Config(coverages=(1.0, 10.0, 1e3), sets=24)


@pytest.fixture(scope="module")
def table():
    return FIGURE.data(CONFIG)


def of(table, part, panel, label):
    return table[(table["part"] == part) & (table["panel"] == panel) & (table["label"] == label)]


def forward(instance, logits):
    policy = np.exp(logits - logits.max(1, keepdims=True))
    policy /= policy.sum(1, keepdims=True)
    return (instance.target * np.log(instance.target / policy)).sum(1) @ instance.context_weights


def test_rkl_with_rewards_of_a_class_is_the_likelihood_maximised_over_its_weights():
    n = 10**6
    instance, features = instance_at(10.0)
    wins = draw(instance, n, 1, range(1)).wins[0]

    def cost(weights):
        reward = features @ weights
        margins = reward[:, :, None] - reward[:, None, :]
        loss = (wins * np.logaddexp(0, -margins)).sum() / n
        slopes = wins * (1 / (1 + np.exp(margins))) / n
        pull = slopes.sum(2) - slopes.sum(1)
        return loss, -np.einsum("xv,xvd->d", pull, features)

    weights = minimize(cost, np.zeros(features.shape[-1]), jac=True, tol=1e-14, options={"gtol": 1e-11}).x
    found = errors(instance, Curve(SMALLER, "RKL", "rkl", rewards="log-linear"), Config(n=n, sets=1))
    assert found[0] == pytest.approx(forward(instance, features @ weights / instance.gamma), rel=1e-3)


def test_each_world_has_the_coverage_that_its_row_says(table):
    for coverage in table.loc[table["part"] == "error", "coverage"].unique():
        assert coverage_table(instance_at(coverage)[0]) == pytest.approx(coverage, rel=1e-6)


def test_efficient_estimates_scatter_about_the_limit_of_their_class(table):
    # KL ≈ c/n in the mean; 24 data sets of a χ²-like error leave it within a factor of 2.
    for panel, label in ((EQUAL, "PMLE"), (SMALLER, "RKL"), (SMALLER, "PMLE, 3 features")):
        means = of(table, "error", panel, label).groupby("coverage")["value"].mean()
        limits = of(table, "limit", panel, "Cramér–Rao limit").set_index("coverage")["value"]
        assert (means / limits).between(1 / 2, 2).all()


def test_with_equal_classes_both_make_the_same_errors_and_a_smaller_one_helps(table):
    values = {key: of(table, "error", *key)["value"].to_numpy() for key in ((EQUAL, "PMLE"), (EQUAL, "RKL"))}
    assert values[EQUAL, "PMLE"] == pytest.approx(values[EQUAL, "RKL"], rel=1e-5)
    limits = table[table["part"] == "limit"].pivot_table(index="coverage", columns="panel", values="value")
    assert (limits[SMALLER] < limits[EQUAL]).all()


def test_slopes_and_ratios_are_those_of_the_errors(table):
    for curve in CURVES:
        mine = of(table, "error", curve.panel, curve.label)
        late = mine[mine["coverage"] >= CONFIG.slope_from]
        slope = of(table, "slope", curve.panel, curve.label).iloc[0]
        assert slope["value"] == pytest.approx(np.polyfit(np.log(late["coverage"]), np.log(late["value"]), 1)[0], abs=1e-9)
        assert slope["low"] <= slope["value"] <= slope["high"]
        last, rkl = (rows[rows["coverage"] == 1e3]["value"].mean() for rows in (mine, of(table, "error", curve.panel, "RKL")))
        assert of(table, "ratio", curve.panel, curve.label)["value"].iloc[0] == pytest.approx(last / rkl, rel=1e-9)


def test_the_picture_holds_the_means_the_limits_and_the_slopes(table):
    panels = render(FIGURE, table).axes
    for panel, name in zip(panels, (EQUAL, SMALLER), strict=True):
        lines = {line.get_label(): line for line in panel.lines}
        texts = [text.get_text() for text in panel.texts]
        for curve in (c for c in CURVES if c.panel == name):
            means = of(table, "error", name, curve.label).groupby("coverage")["value"].mean()
            assert np.array_equal(lines[curve.label].get_xydata(), means.reset_index().to_numpy())
            slope = of(table, "slope", name, curve.label)["value"].iloc[0]
            assert any(text.startswith(f"{curve.label}: {round(slope, 2) + 0:.2f} ±") for text in texts)
        limit = of(table, "limit", name, "Cramér–Rao limit")
        assert np.array_equal(lines["Cramér–Rao limit"].get_ydata(), limit["value"])
        assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    assert panels[0].get_ylim() == panels[1].get_ylim()


def test_the_caption_says_what_the_data_show(table):
    text = FIGURE.caption(table)
    assert text.count(". ") == 1
    assert text.endswith(".")
    ratio = of(table, "ratio", SMALLER, "PMLE").iloc[0]
    assert f"PMLE's is {short(ratio['value'])} times RKL's at C = 1e3" in text
    assert f"RKL's grows like C^{of(table, 'slope', SMALLER, 'RKL')['value'].iloc[0]:.2f} " in text
    assert "the class parts them, not the objective" in text
    assert "PMLE's error equals RKL's" in text


def changed(table, part, panel, label, **values):
    rows = (table["part"] == part) & (table["panel"] == panel) & (table["label"] == label)
    return pd.concat([table[~rows], table[rows].assign(**values)], ignore_index=True)


def test_the_caption_of_other_data_says_otherwise(table):
    text = FIGURE.caption(changed(table, "ratio", EQUAL, "PMLE", value=2.0))
    assert "PMLE's error is 2.0 times RKL's" in text
    assert "the class parts them, not the objective" not in text
    text = FIGURE.caption(changed(table, "ratio", SMALLER, "PMLE", low=0.5))
    assert "(not surely different)" in text
    assert "the class parts them, not the objective" not in text
    text = FIGURE.caption(changed(table, "ratio", SMALLER, "PMLE, 3 features", value=2.0))
    assert "the class alone does not explain what parts them" in text

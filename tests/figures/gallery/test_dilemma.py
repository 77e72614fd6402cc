"""The dilemma of RLHF against closed forms at n = ∞ and a likelihood maximised independently; the picture read back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from figures.build import render
from figures.gallery.dilemma import FIGURE, Config, along
from figures.words import short
from theory.instances import random_instance
from theory.sampling import draw

CONFIG = Config(sizes=(1e3, 1e7), betas=(-3.0, 2.0, 11), sets=3)


@pytest.fixture(scope="module")
def table():
    return FIGURE.data(CONFIG)


def forward(instance, logits):
    policy = np.exp(logits - logits.max(1, keepdims=True))
    policy /= policy.sum(1, keepdims=True)
    return (instance.target * np.log(instance.target / policy)).sum(1) @ instance.context_weights


def test_the_population_paths_are_the_closed_forms(table):
    instance = random_instance(0)
    target, reference = np.log(instance.target), np.log(instance.reference)
    rows = table[(table["part"] == "path") & np.isinf(table["n"]) & (table["beta"] > 0.01)]
    for beta in rows["beta"].unique():
        found = rows[rows["beta"] == beta].set_index("method")["forward_kl"]
        assert found["rlhf"] == pytest.approx(forward(instance, reference + target / beta), rel=1e-6)
        assert found["rkl"] == pytest.approx(forward(instance, (target + beta * reference) / (1 + beta)), rel=1e-6)


def test_finite_data_go_through_the_reward_of_the_same_data():
    # By hand: the ridge's Bradley–Terry likelihood of one context, maximised by scipy.
    instance = random_instance(3, vocab=3, contexts=1)
    wins = draw(instance, 500, 0, range(1)).wins[0, 0]

    def cost(r):
        return (wins * np.logaddexp(0, -(r[:, None] - r[None, :]))).sum() + 0.005 * ((r - r.mean()) ** 2).sum()

    reward = minimize(cost, np.zeros(3), tol=1e-12).x[None]
    log_ref = np.log(instance.reference)
    found = along(instance, "rlhf", 500, [0.5, 2.0], 1)[:, 0]
    assert found == pytest.approx([forward(instance, log_ref + reward / beta) for beta in (0.5, 2.0)], rel=1e-4)
    found = along(instance, "rkl", 500, [0.5, 2.0], 1)[:, 0]
    assert found == pytest.approx([forward(instance, (reward + b * log_ref) / (1 + b)) for b in (0.5, 2.0)], rel=1e-4)


def test_the_levels_bound_the_paths(table):
    instance = random_instance(0)
    levels = table.set_index("part")["forward_kl"]
    rlhf = table[(table["method"] == "rlhf") & (table["part"] == "path") & np.isinf(table["n"])]
    assert 0 < levels["floor"] <= rlhf["forward_kl"].min() * (1 + 1e-9)
    assert levels["reference"] == pytest.approx(forward(instance, np.log(instance.reference)), rel=1e-9)
    assert levels["floor"] < levels["reference"]


def test_the_picture_holds_the_table(table):
    (panel,) = render(FIGURE, table).axes
    lines = {line.get_label(): line for line in panel.lines}
    for (method, n), rows in table[table["part"] == "path"].groupby(["method", "n"]):
        assert np.array_equal(lines[f"{method}, n = {n:g}"].get_xydata(), rows[["beta", "forward_kl"]].to_numpy())
    floor = table.loc[table["part"] == "floor", "forward_kl"].iloc[0]
    assert any(line.get_linestyle() == ":" and set(line.get_ydata()) == {floor} for line in panel.lines)
    rlhf = table[(table["method"] == "rlhf") & (table["part"] == "path") & np.isinf(table["n"])]
    best = rlhf.loc[rlhf["forward_kl"].idxmin()]
    assert any(line.get_xydata().tolist() == [[best["beta"], best["forward_kl"]]] for line in panel.lines)
    assert f"floor of RLHF: {floor:.3f}" in [text.get_text() for text in panel.texts]
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")


def test_the_caption_says_what_the_data_show(table):
    text = FIGURE.caption(table)
    assert text.count(". ") == 1
    assert text.endswith(".")
    rlhf = table[(table["method"] == "rlhf") & (table["part"] == "path") & np.isinf(table["n"])]
    floor = table.loc[table["part"] == "floor", "forward_kl"].iloc[0]
    best = rlhf.loc[rlhf["forward_kl"].idxmin(), "beta"]
    assert f"never below {floor:.2g} nats (β = {best:.2g}): it is {short(rlhf['forward_kl'].iloc[0])} nats at β = 0.001" in text
    assert "RKL's error falls all the way" in text


@pytest.mark.parametrize(
    ("method", "n", "value", "said"),
    [
        ("rkl", np.inf, 1.0, "RKL's error does not fall all the way"),
        ("rlhf", np.inf, 1e-9, "is least at an end of the path: it is 1e-9 nats at β = 0.001"),
        ("rlhf", np.inf, 0.01, "it is 0.010 nats at β = 0.001"),
    ],
)
def test_the_caption_of_other_data_says_otherwise(table, method, n, value, said):
    other = table.copy()
    first = (other["method"] == method) & (other["n"] == n) & (other["beta"] == other["beta"].min())
    other.loc[first, "forward_kl"] = value
    assert said in FIGURE.caption(other)

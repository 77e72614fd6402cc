"""DPO's flow against its closed form, chances against enumeration, and the picture read back."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize

from figures.build import render
from figures.gallery.degeneracy import (
    BOTH_WAYS,
    CHANCE,
    EDGE,
    EXACT,
    FIGURE,
    FLOW,
    MASS,
    ONE_WAY,
    OTHERS,
    REFERENCE,
    SHARED,
    Config,
)
from figures.words import short

CONFIG = Config(
    references=((0.2, 0.5, 0.3), (0.5, 0.4, 0.1)),
    decades=(-1.0, 6.0),
    points=15,
    beta=0.5,
    labels=(1, 3),
    preferences=(0.5, 0.9),
    shown=(0.5, 0.9),
    pairs=2,
    unseen=1,
    data_sets=30,
)


@pytest.fixture(scope="module")
def table():
    return FIGURE.data(CONFIG)


def flow(table, panel, method):
    rows = table[(table["part"] == FLOW) & (table["panel"] == panel) & (table["method"] == method)]
    return [run for _, run in rows.groupby("run")]


def log_ratio(rows):
    return np.log(rows["winner"] / rows["loser"]).to_numpy()


def test_on_one_label_the_margin_follows_its_closed_form_and_the_unseen_logit_rests(table):
    runs = flow(table, ONE_WAY, "dpo")
    assert [tuple(run.iloc[0][["winner", "loser", "unseen"]]) for run in runs] == list(CONFIG.references)
    for run in runs:
        u = CONFIG.beta * (log_ratio(run) - log_ratio(run)[0])
        # du/dt = 2β² σ(−u), so that eᵘ + u grows by 2β² a unit of time.
        assert np.exp(u) + u - 1 == pytest.approx(2 * CONFIG.beta**2 * run["time"].to_numpy(), rel=1e-4, abs=1e-6)
        rest = np.log(run["unseen"]) - (np.log(run["winner"]) + np.log(run["loser"])) / 2
        assert rest.to_numpy() == pytest.approx(rest.iloc[0], abs=1e-4)


def test_on_both_labels_the_log_ratio_ends_at_the_log_odds_over_beta(table):
    for run in flow(table, BOTH_WAYS, "dpo"):
        assert log_ratio(run)[-1] - log_ratio(run)[0] == pytest.approx(np.log(3) / CONFIG.beta, abs=1e-4)


def test_with_shared_parameters_the_unseen_response_takes_all(table):
    (run,) = flow(table, ONE_WAY, SHARED)
    assert run.iloc[-1]["unseen"] > 0.999
    # One parameter: the three log-probabilities stay in the line of the features (1, 0, 2).
    assert np.log(run["unseen"] / run["winner"]).to_numpy() == pytest.approx(log_ratio(run), abs=1e-9)


def test_pmle_ends_where_its_objective_is_least(table):
    def cost(logits, reference):
        logp = logits - np.log(np.exp(logits).sum())
        kl = np.exp(logp) @ (logp - np.log(reference))
        return np.logaddexp(0, logp[1] - logp[0]) + CONFIG.pmle_beta * kl

    for run, reference in zip(flow(table, OTHERS, "pmle"), CONFIG.references, strict=True):
        least = minimize(cost, np.log(reference), args=(reference,), tol=1e-12).x
        expected = np.exp(least) / np.exp(least).sum()
        assert run.iloc[-1][["winner", "loser", "unseen"]].tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_policies_without_the_loser_have_the_infimum_whatever_the_unseen_response_gets(table):
    edge = table[table["part"] == EDGE]
    assert edge["unseen"].min() < 0.01
    assert edge["unseen"].max() > 0.99
    # −log σ(u) ≤ e^{−u} with u = β·log(winner/loser).
    assert (edge["value"] <= (edge["loser"] / edge["winner"]) ** CONFIG.beta * (1 + 1e-9)).all()


def chance(labels, preference):
    """P(some pair's labels agree), over all labels of all pairs."""
    found = 0.0
    for votes in product((0, 1), repeat=labels * CONFIG.pairs):
        pairs = np.reshape(votes, (CONFIG.pairs, labels))
        if any(len(set(pair)) == 1 for pair in pairs):
            found += np.prod(np.where(pairs, preference, 1 - preference))
    return found


def test_chances_are_those_of_all_labels_and_near_the_simulated(table):
    exact = table[table["part"] == EXACT].set_index(["preference", "labels"])["value"]
    assert len(exact) == 2 * 3
    for preference in CONFIG.preferences:
        for labels in (1, 2, 3):
            assert exact[preference, labels] == pytest.approx(chance(labels, preference), rel=1e-12)
    for row in table[table["part"] == CHANCE].itertuples():
        error = np.sqrt(exact[row.preference, row.labels] * (1 - exact[row.preference, row.labels]) / CONFIG.data_sets)
        assert abs(row.value - exact[row.preference, row.labels]) <= 4 * error + 1e-12
        assert row.low <= row.value <= row.high


def fair(table):
    return table[(table["part"] == MASS) & (table["preference"] == 0.5)]


def test_dpo_gives_the_unanimous_winners_all_they_can_get(table):
    masses = fair(table).pivot(index="labels", columns="method", values="value")
    assert set(masses.columns) == {"dpo", "pmle", "drdo", REFERENCE}
    assert masses.loc[1, "dpo"] > 0.99
    # π_ref is uniform: one of each pair's two responses, of five in all.
    assert masses.loc[1, REFERENCE] == pytest.approx(CONFIG.pairs / 5)
    without = table[(table["part"] == CHANCE) & (table["preference"] == 0.5)].set_index("labels")["value"]
    assert masses["dpo"].to_numpy() == pytest.approx(without.to_numpy(), abs=0.01)
    assert (masses[["pmle", REFERENCE]].max(axis=1) < masses["dpo"]).all()


def test_the_picture_holds_trajectories_chances_and_masses(table):
    panels = render(FIGURE, table).axes
    height = np.sqrt(3) / 2
    for panel, name in zip(panels[:3], (ONE_WAY, BOTH_WAYS, OTHERS), strict=True):
        drawn = [line.get_xydata() for line in panel.lines if not line.get_label().startswith("_")]
        rows = table[(table["part"] == FLOW) & (table["panel"] == name)]
        for _, run in rows.groupby("run"):
            # Barycentric coordinates of the drawn points give the policy back.
            expected = run[["winner", "loser", "unseen"]].to_numpy() @ np.array([[1, 0], [0, 0], [0.5, height]])
            assert any(line.shape == expected.shape and np.allclose(line, expected, atol=1e-12) for line in drawn)
    assert EDGE in {line.get_label() for line in panels[0].lines}
    lines = {line.get_label(): line for line in panels[3].lines}
    for preference, rows in table[table["part"] == EXACT].groupby("preference"):
        assert np.array_equal(lines[f"{preference:g}"].get_xydata(), rows[["labels", "value"]].to_numpy())
    for bar, (_, rows) in zip(panels[3].containers, table[table["part"] == CHANCE].groupby("preference"), strict=True):
        assert np.array_equal(bar.lines[0].get_ydata(), rows["value"])
        ends = np.array([segment[:, 1] for segment in bar.lines[2][0].get_segments()])
        assert ends == pytest.approx(rows[["low", "high"]].to_numpy())
    masses = table[table["part"] == MASS]
    for panel, preference in zip(panels[4:], CONFIG.shown, strict=True):
        assert panel.get_title().endswith(f"$P = {preference:g}$")
        lines = {line.get_label(): line for line in panel.lines}
        for method, rows in masses[masses["preference"] == preference].groupby("method"):
            assert np.array_equal(lines["$π_{ref}$" if method == REFERENCE else method].get_ydata(), rows["value"])


def test_the_caption_holds_the_tables_numbers(table):
    text = FIGURE.caption(table)
    assert text.count(". ") == 1
    values = fair(table).pivot(index="labels", columns="method", values="value")
    best = max(CONFIG.labels, key=lambda labels: values.loc[labels, "dpo"] - values.loc[labels, REFERENCE])
    assert f"With {best} labels a pair at P = 0.5" in text
    assert f"on {chance(best, 0.5):.0%} of data sets of 2 pairs" in text
    mine, others = values.loc[best, "dpo"], [values.loc[best, m] for m in (REFERENCE, "pmle", "drdo")]
    assert f"puts {short(mine)} of its mass" in text
    assert text.endswith("π_ref {}, PMLE {} and DRDO {}.".format(*map(short, others)))


def test_the_caption_of_other_data_has_other_numbers(table):
    other = table.copy()
    other.loc[(other["part"] == MASS) & (other["method"] == "dpo") & (other["labels"] == 3), "value"] = 0.99
    text = FIGURE.caption(other)
    assert "With 3 labels a pair" in text
    assert "puts 0.99 of its mass" in text

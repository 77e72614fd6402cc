"""Over-optimisation: χPO against its closed form, DPO against its own path, and the picture read back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import wrightomega

from figures.build import render
from figures.gallery.overoptimisation import FIGURE, Config, through_reward
from theory import objectives
from theory.audit.overoptimisation import paths
from theory.audit.subject import Subject
from theory.audit.tuning import table_task
from theory.instances import random_instance
from theory.instances.mismatch import with_coverage
from theory.sampling import draw

CONFIG = Config(sets=6, values=(1.5, -2.0, 7))
WORLD = random_instance(0, vocab=4, contexts=3)
ABOUT = {"coefficient": 20.0, "n": 200, "data_sets": 3, "values": [10.0, 1.0, 0.1]}


@pytest.fixture(scope="module")
def table():
    return FIGURE.data(CONFIG)


def test_dpo_through_the_learned_reward_is_dpo_on_the_data():
    subject = Subject(objectives.get("dpo"), instance=WORLD)
    found, expected = through_reward(subject, **ABOUT), paths(subject, **ABOUT)
    for name in ("values", "drift", "gold", "proxy", "forward_kl"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-9)
    assert found.target == pytest.approx(expected.target)


def chi_squared(reference, reward, beta):
    """π = π_ref·φ⁻¹((r − c)/β) by hand: φ(z) = z + log z is inverted by Wright's ω, and c makes π sum to 1."""

    def policy(c):
        return reference * wrightomega((reward - c) / beta)

    c = brentq(lambda c: np.log(policy(c).sum()), reward.min() - 5 * beta, reward.max() + 5 * beta, xtol=1e-13)
    return policy(c)


def test_chipo_is_its_closed_form_on_the_learned_reward():
    subject = Subject(objectives.get("chipo"), instance=WORLD)
    found, world = through_reward(subject, **ABOUT), with_coverage(WORLD, ABOUT["coefficient"])
    data = draw(world, ABOUT["n"], 0, range(ABOUT["data_sets"]))
    learned = table_task(world, data, subject.settings).reward_fit.reward.numpy()
    for (p, beta), s in ((pb, s) for pb in enumerate(ABOUT["values"]) for s in range(ABOUT["data_sets"])):
        policy = np.stack([chi_squared(world.reference[x], learned[s, x], beta) for x in range(world.contexts)])
        step = policy - world.reference
        assert found.proxy[p, s] == pytest.approx((step * learned[s]).sum(1).mean(), rel=1e-5, abs=1e-8)
        assert found.gold[p, s] == pytest.approx((step * np.log(world.target)).sum(1).mean(), rel=1e-5, abs=1e-8)
        assert found.drift[p, s] == pytest.approx((policy * np.log(policy / world.reference)).sum(1).mean(), rel=1e-5)
        assert found.forward_kl[p, s] == pytest.approx((world.target * np.log(world.target / policy)).sum(1).mean(), rel=1e-5)


def test_rlhf_and_dpo_walk_one_path_and_buy_learned_reward_with_drift(table):
    fits = table[table["part"] == "fit"]
    walked = {name: fits[fits["method"] == name] for name in ("rlhf", "dpo")}
    for quantity in ("drift", "gold", "proxy"):
        assert walked["dpo"][quantity].to_numpy() == pytest.approx(walked["rlhf"][quantity].to_numpy(), rel=1e-6, abs=1e-9)
    for _, rows in walked["rlhf"].groupby("data_set"):
        assert (np.diff(rows["proxy"]) >= -1e-9).all()
        assert (np.diff(rows["drift"]) >= -1e-9).all()


def test_turns_are_chosen_on_half_of_the_data_sets_and_measured_on_the_rest(table):
    fits, turns = table[table["part"] == "fit"], table[table["part"] == "turn"].set_index("method")
    gold = {name: rows.pivot(index="data_set", columns="value", values="gold") for name, rows in fits.groupby("method")}
    first = gold["rlhf"][gold["rlhf"].iloc[::2].mean().idxmax()]
    for name, scores in gold.items():
        row, best = turns.loc[name], scores.iloc[::2].mean().idxmax()
        assert row["value"] == best
        assert row["gold"] == pytest.approx(scores[best].mean())
        gains = (scores[best] - first).iloc[1::2]
        assert row["gain"] == pytest.approx(gains.mean(), abs=1e-12)
        half = stats.t.ppf(0.975, len(gains) - 1) * gains.std() / np.sqrt(len(gains))
        assert row["gain_high"] - row["gain"] == pytest.approx(half, abs=1e-12)


def test_the_picture_holds_the_means_and_the_turns(table):
    learned, true = render(FIGURE, table).axes
    fits, turns = table[table["part"] == "fit"], table[table["part"] == "turn"]
    for panel, quantity in ((learned, "proxy"), (true, "gold")):
        lines = {line.get_label(): line for line in panel.lines}
        for name, rows in fits.groupby("method"):
            means = rows.groupby("value", sort=False)[["drift", quantity]].mean()
            assert np.array_equal(lines[name].get_xydata(), means.to_numpy())
    marked = [line.get_xydata().tolist() for line in true.lines]
    for _, row in turns.iterrows():
        assert [[row["drift"], row["gold"]]] in marked
    assert any(set(line.get_ydata()) == {turns["target"].iloc[0]} for line in true.lines)


def test_the_caption_says_what_the_data_show(table):
    text = FIGURE.caption(table)
    assert text.count(". ") == 1
    assert text.endswith(".")
    assert "from 1,000 comparisons that cover badly (C = 100)" in text
    turns = table[table["part"] == "turn"].set_index("method")
    assert f"χPO's best, {turns.loc['chipo', 'gold']:.2g}, is" in text
    assert "for RLHF, DPO" in text or "for RLHF and DPO" in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss": 0.2, "loss_low": 0.1, "loss_high": 0.3}, "but it too falls after, by 0.20."),
        ({"loss": 0.2, "loss_low": -0.1, "loss_high": 0.5}, "may fall for χPO"),
        ({"loss": 0.0, "loss_low": 0.0, "loss_high": 0.0}, "stays at its best for RLHF, DPO, IPO, RKL and χPO"),
        ({"loss": 0.2, "loss_low": -0.1, "loss_high": 0.5}, "and no fall after it is sure."),
        ({"gain": 0.1, "gain_low": 0.05, "gain_high": 0.2}, "is 0.10 nats above RLHF's"),
        ({"gain": -0.1, "gain_low": -0.2, "gain_high": -0.05}, "is 0.10 nats below RLHF's"),
        ({"gain": 0.1, "gain_low": -0.05, "gain_high": 0.2}, "is not surely away from RLHF's"),
        ({"loss_low": 0.1, "loss_high": 0.3, "rise_low": -0.1}, "while the learned one does not surely rise"),
    ],
)
def test_the_caption_follows_the_data(table, values, said):
    other = table.copy()
    chipo = (other["part"] == "turn") & (other["method"] == "chipo")
    other.loc[(other["part"] == "turn") & ~chipo, ["loss", "loss_low", "loss_high"]] = 0.0
    other.loc[chipo, list(values)] = list(values.values())
    assert said in FIGURE.caption(other)

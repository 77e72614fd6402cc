"""Oracle advantage: differences by hand, intervals by scipy, what is drawn and said."""

import numpy as np
import pytest
from scipy import stats

from figures.build import render
from figures.figure import FromResults
from figures.gallery.oracle_advantage import FIGURE
from tests.figures.gallery import curves

LAST = max(curves.STEPS)


@pytest.fixture
def data(tmp_path):
    return FIGURE.data(FromResults(curves.write(tmp_path)))


@pytest.mark.parametrize("temperature", [1.0, *curves.TEMPERATURES])
def test_advantages_and_intervals_by_hand(data, temperature):
    at = data[data["temperature"] == temperature].set_index(["panel", "policy"])
    for method in curves.SLOPES:
        rewards = np.array([curves.reward(method, seed, LAST, temperature) for seed in curves.SEEDS])
        supervised = np.array([curves.reward("sft", seed, LAST, temperature) for seed in curves.SEEDS])
        for panel, values in (("sft", rewards - supervised), ("reference", rewards - curves.REFERENCE)):
            row = at.loc[(panel, method)]
            assert row["advantage"] == pytest.approx(values.mean())
            assert row["seeds"] == len(values)
            if values.std() > 1e-12:
                interval = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
                assert (row["low"], row["high"]) == pytest.approx(interval)
    parts = at["part"].to_dict()
    assert parts["sft", "sft"] == "baseline"
    assert parts["reference", "sft"] == parts["sft", "dpo"] == "trained"


def test_policies_that_need_no_training(data):
    known = data[data["seeds"] == 0].set_index("policy")["advantage"]
    assert known.to_dict() == pytest.approx(
        {"target": curves.TARGET - curves.REFERENCE, "reference": 0.0, "winners": curves.WINNERS - curves.REFERENCE}
    )


def test_what_is_drawn(data):
    canvas = render(FIGURE, data)
    for axes, name in zip(canvas.axes, ("sft", "reference"), strict=True):
        here = data[data["panel"] == name]
        lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
        trained = here[here["part"] == "trained"]
        assert list(lines)[: trained["policy"].nunique()] == list(trained["policy"].unique())
        for method, rows in trained.groupby("policy"):
            at = rows.sort_values("temperature")
            assert lines[method].get_xydata() == pytest.approx(at[["temperature", "advantage"]].to_numpy())
        for band, (_, rows) in zip(axes.collections, trained.groupby("policy", sort=False), strict=True):
            heights = band.get_paths()[0].vertices[:, 1]
            assert (heights.min(), heights.max()) == pytest.approx((rows["low"].min(), rows["high"].max()))
        levels = here[here["part"] == "known"].set_index("policy")["advantage"]
        for policy, level in levels.items():
            assert lines[policy].get_linestyle() == "--"
            assert lines[policy].get_ydata() == pytest.approx([level, level])
    texts = [text.get_text() for text in canvas.axes[1].texts]
    assert set(texts) == {"sft", "dpo", "drdo", "reference", "target π*", "winners of the data"}
    assert "95% t-intervals, 3 data sets" in canvas.axes[0].texts[-1].get_text()


def test_what_is_said_follows_the_numbers(data):
    said = FIGURE.caption(data)
    assert said.count(". ") == 1
    for words in (
        "DPO gains the most true reward over supervised training, +0.61 nats at temperature 1.",
        "over the reference DPO gains +0.91 where the target itself gains -0.10",
        "Nearest to the target in forward KL is DRDO (0.10 nats against 0.20 for DPO)",
    ):
        assert words in said, said
    equal = data.assign(advantage=data["advantage"].where(data["policy"] != "drdo", data["advantage"].max()))
    equal.loc[(equal["policy"] == "dpo") & (equal["panel"] == "sft"), "advantage"] = data["advantage"].max() - 1e-4
    assert FIGURE.caption(equal).startswith("DRDO and DPO gain the most")


def test_it_says_so_if_the_best_is_the_nearest(data):
    nearer = data.assign(forward_kl=data["forward_kl"].where(data["policy"] != "dpo", 0.01))
    assert "Nearest to the target in forward KL is also DPO (0.010 nats)" in FIGURE.caption(nearer)

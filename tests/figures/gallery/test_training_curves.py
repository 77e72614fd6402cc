"""Training curves: the table behind them, what is drawn, and what is said."""

import pytest

from figures.build import render
from figures.figure import FromResults
from figures.gallery.training_curves import FIGURE, PANELS
from tests.figures.gallery import curves


@pytest.fixture
def data(tmp_path):
    return FIGURE.data(FromResults(curves.write(tmp_path)))


def test_the_table_is_what_was_measured(data):
    trained = data[data["part"] == "trained"]
    assert len(trained) == len(curves.SLOPES) * len(curves.SEEDS) * len(curves.STEPS) * len(PANELS)
    at = trained.set_index(["panel", "policy", "seed", "step"])["value"]
    for method, (_, accuracy, chosen, rejected) in curves.SLOPES.items():
        for seed in curves.SEEDS:
            for step in curves.STEPS:
                expected = curves.reward(method, seed, step) - curves.REFERENCE
                assert at["oracle_advantage", method, seed, step] == pytest.approx(expected)
                assert at["accuracy", method, seed, step] == pytest.approx(0.5 + accuracy * step)
                assert at["chosen_logp", method, seed, step] == pytest.approx(-3.7 + chosen * step)
                assert at["rejected_logp", method, seed, step] == pytest.approx(-4.7 + rejected * step)
    known = data[data["part"] == "known"].set_index(["panel", "policy"])["value"]
    assert len(known) == 3 * len(PANELS)
    assert known["oracle_advantage", "target"] == pytest.approx(curves.TARGET - curves.REFERENCE)
    assert known["oracle_advantage", "reference"] == 0


def test_what_is_drawn(data):
    canvas = render(FIGURE, data)
    shown = list(PANELS)
    assert [axes.get_ylabel() for axes in canvas.axes] == list(PANELS.values())
    for axes, name in zip(canvas.axes, shown, strict=True):
        assert axes.get_xlabel() == "steps"
        *lines, target = axes.lines
        here = data[data["panel"] == name]
        assert [line.get_gid() for line in lines] == [f"{name} {method}" for method in curves.SLOPES]
        for line, band, method in zip(lines, axes.collections, curves.SLOPES, strict=True):
            rows = here[here["policy"] == method]
            means = [rows.loc[rows["step"] == step, "value"].mean() for step in curves.STEPS]
            assert line.get_xdata().tolist() == list(curves.STEPS)
            assert line.get_ydata() == pytest.approx(means)
            heights = band.get_paths()[0].vertices[:, 1]
            assert (heights.min(), heights.max()) == pytest.approx((rows["value"].min(), rows["value"].max()))
        assert (target.get_linestyle(), set(target.get_ydata())) == ("--", {here.set_index("policy").loc["target", "value"]})
        assert {text.get_text() for text in axes.texts} >= {*curves.SLOPES, "target π*"}
    assert "range over 3 data sets" in canvas.axes[0].texts[-1].get_text()


def test_what_is_said_follows_the_numbers(tmp_path, data):
    said = FIGURE.caption(data)
    assert said.count(". ") == 1
    for words in (
        "ranges from +0.30 nats (SFT) to +0.91 (DPO), with the target's at -0.10.",
        "fall furthest under DPO (-0.90 nats), where the paper has DRDO's fall furthest (here -0.60).",
    ):
        assert words in said, said
    slopes = {**curves.SLOPES, "drdo": (0.9, 0.04, -0.1, -0.5)}
    said = FIGURE.caption(FIGURE.data(FromResults(curves.write(tmp_path, curves.rows(slopes)))))
    for words in (
        "(DRDO), with the target's at -0.10.",
        "fall furthest under DRDO (-1.50 nats), as in the paper.",
    ):
        assert words in said, said


def test_least_under_drdo_is_said_once(tmp_path):
    slopes = {**curves.SLOPES, "drdo": (0.2, 0.04, 0.04, -0.05)}
    said = FIGURE.caption(FIGURE.data(FromResults(curves.write(tmp_path, curves.rows(slopes)))))
    assert said.endswith("under DPO (-0.90 nats), where the paper has DRDO's fall furthest (here -0.15).")
    without = {name: slope for name, slope in slopes.items() if name != "drdo"}
    said = FIGURE.caption(FIGURE.data(FromResults(curves.write(tmp_path, curves.rows(without)))))
    assert said.endswith("fall furthest under DPO (-0.90 nats).")


def test_a_table_of_other_temperatures_only_at_the_end(data):
    assert data.groupby(["panel", "policy", "seed", "step"]).size().max() == 1

"""Labels keep apart and stay as near as that allows; methods are told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import LinearConstraint, minimize

from figures import registry, style
from theory.objectives import names

HEIGHTS = st.lists(st.floats(-500, 500, allow_nan=False), min_size=1, max_size=8).map(sorted).map(np.array)
GAPS = st.floats(0.1, 30)


@given(heights=HEIGHTS, gap=GAPS)
def test_labels_keep_their_order_and_their_distance(heights, gap):
    assert np.all(np.diff(style._apart(heights, gap)) >= gap - 1e-9)


@given(heights=HEIGHTS, gap=GAPS)
def test_no_feasible_direction_brings_labels_nearer(heights, gap):
    """The condition of the least squares' optimum: groups that touch are balanced, and so are their lower parts."""
    placed = style._apart(heights, gap)
    moved = placed - heights
    touching = np.isclose(np.diff(placed), gap, atol=1e-7)
    for group in np.split(np.arange(len(heights)), np.flatnonzero(~touching) + 1):
        assert moved[group].sum() == pytest.approx(0, abs=1e-6 * len(heights) * (1 + np.abs(heights).max()))
        # Moving the lower labels of a group down together must not help: they were all pushed down already.
        assert np.all(np.cumsum(moved[group]) <= 1e-6 * (1 + np.abs(heights).max()))


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_of_squares_is_a_solvers(seed):
    rng = np.random.default_rng(seed)
    heights, gap = np.sort(rng.normal(0, 20, 6)), 7.0
    constraint = LinearConstraint(np.diff(np.eye(6), axis=0), lb=gap)
    found = minimize(lambda x: np.sum((x - heights) ** 2), 10.0 * np.arange(6), method="SLSQP", constraints=constraint)
    assert found.success
    np.testing.assert_allclose(style._apart(heights, gap), found.x, atol=1e-3)


def test_labels_with_room_stay_where_they_are():
    np.testing.assert_array_equal(style._apart(np.array([0.0, 10.0, 17.0]), 7.0), [0.0, 10.0, 17.0])


@pytest.fixture
def axes():
    figure = Figure(figsize=(3, 2), dpi=100)
    FigureCanvasAgg(figure)
    panel = figure.add_subplot()
    panel.set(xlim=(0, 1), ylim=(0, 1))
    return panel


def middles(texts):
    extents = [text.get_window_extent() for text in texts]
    return np.array([(extent.y0 + extent.y1) / 2 for extent in extents]) * 72 / 100


def test_labels_stand_beside_their_points_in_the_points_order(axes):
    style.label_ends(axes, [(0.9, 0.5, "middle", "red"), (0.9, 0.52, "upper", "blue"), (0.9, 0.1, "alone", "black")])
    middle, upper, alone = axes.texts
    heights = middles(axes.texts)
    assert heights[1] - heights[0] == pytest.approx(style.APART, abs=0.8)
    at = axes.transData.transform([(0.9, 0.51), (0.9, 0.1)]) * 72 / 100
    assert (heights[0] + heights[1]) / 2 == pytest.approx(at[0, 1], abs=1)
    assert heights[2] == pytest.approx(at[1, 1], abs=1)
    for text in (middle, upper, alone):
        assert text.get_window_extent().x0 * 72 / 100 == pytest.approx(at[0, 0] + style.BESIDE, abs=1)
    assert [text.get_color() for text in axes.texts] == ["red", "blue", "black"]


def test_labels_of_two_calls_do_not_push_each_other_nor_notes(axes):
    style.note(axes, "a note", (0.5, 0.5))
    style.label_ends(axes, [(0.1, 0.5, "left", "black")])
    style.label_ends(axes, [(0.9, 0.5, "right", "black"), (0.9, 0.5, "also right", "black")])
    note, left, *right = axes.texts
    assert note.get_position() == (0.5, 0.5)
    assert left.get_position() == (style.BESIDE, 0)
    assert sorted(text.get_position()[1] for text in right) == pytest.approx([-style.APART / 2, style.APART / 2])


def test_settling_follows_a_panel_that_has_shrunk(axes):
    axes.set_position((0.1, 0.1, 0.8, 0.8))
    style.label_ends(axes, [(0.9, 0.4, "low", "black"), (0.9, 0.6, "high", "black")])
    assert [text.get_position()[1] for text in axes.texts] == [0, 0]
    axes.set_position((0.1, 0.1, 0.8, 0.05))
    style.settle(axes.figure)
    assert np.diff(middles(axes.texts)) == pytest.approx(style.APART, abs=0.8)


def test_no_labels_are_no_mistake(axes):
    style.label_ends(axes, [])
    assert list(axes.texts) == []


def test_a_method_has_one_look_and_no_other_has_it():
    looks = [(style.method(name)["color"], style.method(name)["marker"]) for name in names()]
    assert len(set(looks)) == len(names())
    assert style.method("dpo") == style.method("dpo")
    assert style.method("dpo", marker="x") == {**style.method("dpo"), "marker": "x"}
    assert [style.colour(name) for name in names()] == [color for color, _ in looks]


@pytest.mark.parametrize("name", registry.names())
def test_methods_drawn_together_have_different_colours(name):
    """Where a figure names its methods, no two share a colour unless their lines or markers differ."""
    config = registry.get(name).config
    methods = {str(method).removesuffix(" (tied)") for method in getattr(config, "methods", ())} & set(names())
    for one, other in itertools.combinations(sorted(methods), 2):
        assert style.colour(one) != style.colour(other), (one, other)


def test_sizes_are_legible_in_print():
    texts = ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    assert min(style.SMALL, *(style.RC[name] for name in texts)) >= 6
    assert style.RC["lines.linewidth"] <= 2
    assert style.APART >= style.SMALL

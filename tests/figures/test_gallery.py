"""What every drawn figure keeps to, whatever it shows; what each one shows is tested in its own file."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from figures import registry
from figures.build import render
from figures.style import SMALL

# Their data take more than a few seconds even with --fast.
SLOW = {"audit-matrix", "coverage", "degeneracy", "efficiency", "kl-against-n", "length-bias"}
# The audit's words and the claims' names are many; half a point less than elsewhere stays legible in a wide figure.
LEAST = SMALL - 0.5
# Of a caption: what a reader takes in at once; the rest is in the picture.
MOST_WORDS = 60
# Periods that end no sentence.
ABBREVIATIONS = r"\b(?:Figs?|Apps?|Eqs?|Tab|vs|cf|e\.g|i\.e|resp)\."

names = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in registry.names()]
)


def sentences(text: str) -> list[str]:
    """The sentences of a caption."""
    return [part for part in re.split(r"(?<=[.!?])\s+", re.sub(ABBREVIATIONS, "", text).strip()) if part]


@cache
def table(name: str) -> Any:
    figure = registry.get(name)
    return figure.data(figure.fast)


@cache
def drawn(name: str) -> Any:
    return render(registry.get(name), table(name))


def words(canvas: Any) -> list[Any]:
    """Every text that is drawn but the numbers at the ticks, which matplotlib keeps apart itself."""
    texts = list(canvas.texts)
    for axes in canvas.axes:
        texts += [*axes.texts, axes.title, axes._left_title, axes._right_title]
        if axes.axison:
            texts += [axes.xaxis.label, axes.yaxis.label]
        texts += axes.get_legend().get_texts() if axes.get_legend() else []
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def boxes(canvas: Any) -> list[tuple[str, Any]]:
    renderer = canvas.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in words(canvas)]


@names
def test_a_caption_is_two_sentences_of_finite_numbers(name):
    caption = registry.get(name).caption(table(name))
    assert len(sentences(caption)) == 2, caption
    assert len(caption.split()) <= MOST_WORDS, caption
    assert caption == " ".join(caption.split())
    assert caption.endswith(".")
    assert re.search(r"\d", caption)
    assert not re.search(r"\b(nan|None)\b", caption)


@names
def test_a_table_is_tidy_and_of_plain_types(name):
    data = table(name)
    assert len(data) > 0
    assert data.columns.is_unique
    assert all(isinstance(column, str) for column in data.columns)
    plain = (str, bool, int, float, np.bool_, np.integer, np.floating, type(None))
    assert [column for column in data.columns if not all(isinstance(value, plain) for value in data[column])] == []


@names
def test_no_words_lie_on_others_or_leave_the_figure(name):
    canvas = drawn(name)
    found = boxes(canvas)
    for text, box in found:
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < canvas.bbox.x1 + 1 and box.y1 < canvas.bbox.y1 + 1
        assert inside, f"{text!r} is cut off"
    for (one, a), (other, b) in itertools.combinations(found, 2):
        overlap = min(min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)) * 72 / canvas.dpi
        assert overlap < 1, f"{one!r} lies on {other!r}"


@names
def test_words_are_legible_and_lines_are_thin_in_print(name):
    canvas = drawn(name)
    assert [text.get_text() for text in words(canvas) if text.get_fontsize() < LEAST] == []
    solid = [line for axes in canvas.axes for line in axes.lines if (line.get_alpha() or 1) > 0.5]  # a band may be wide
    thick = [line.get_label() for line in solid if line.get_linewidth() > 2.2]
    assert thick == []


@names
def test_no_panel_is_empty_or_unnamed(name):
    for axes in drawn(name).axes:
        if axes.axison:
            assert axes.has_data()
            assert axes.get_xlabel() or axes.get_ylabel() or axes.get_title(loc="left") or axes.get_title()
        else:
            assert axes.has_data() or axes.texts or axes.patches


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two.", 2),
        ("It is 0.5 nats (n = 1e+10). dpo stops.", 2),
        ("As in unified Fig. 1, it falls. It is there, e.g. at 3.", 2),
        ("Only one.", 1),
        ("One! Two? Three.", 3),
    ],
)
def test_sentences_are_counted_as_a_reader_does(text, count):
    assert len(sentences(text)) == count

"""Every claim and its verdict: the records' own words, what is drawn and said."""

import json
from collections import Counter
from itertools import pairwise

import pytest

from figures.build import render
from figures.gallery.verdicts import COLUMNS, FIGURE, LOOKS, Config
from paper_checks import records
from paper_checks.claims import PAPERS, Verdict


@pytest.fixture(scope="module")
def data():
    return FIGURE.data(Config())


@pytest.fixture(scope="module")
def recorded():
    """Verdicts by id, from the files themselves."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8"))["verdict"] for path in records.FOLDER.glob("*.json")}


def test_every_record_is_a_row(data, recorded):
    rows = {f"{paper}-{claim}": verdict for paper, claim, verdict in data[["paper", "claim", "verdict"]].itertuples(index=False)}
    assert rows == recorded
    assert len(data) == len(recorded)


def test_all_papers_and_verdicts_have_a_look():
    assert Config().papers == tuple(PAPERS)
    assert set(LOOKS) == {str(verdict) for verdict in Verdict}


def test_a_claim_without_record_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    with pytest.raises(LookupError, match="paper-checks run --record"):
        FIGURE.data(Config())


def test_the_cache_depends_on_the_records():
    assert FIGURE.reads == ("paper_checks/records/*.json",)


def test_a_cell_for_each_claim_in_its_verdict_s_colour(data, recorded):
    (panel,) = render(FIGURE, data).axes
    headings = dict.fromkeys(LOOKS, len(PAPERS))
    assert Counter(patch.get_gid() for patch in panel.patches) == Counter(headings) + Counter(recorded.values())
    by_place = {(patch.get_x(), patch.get_y()): patch.get_gid() for patch in panel.patches}
    drawn = {(text.get_text(), _place(text, by_place)) for text in panel.texts}
    assert {(row.claim, row.verdict) for row in data.itertuples()} <= drawn


def _place(text, by_place):
    """The verdict of the cell that a text stands in."""
    x, y = text.get_position()
    return next((gid for (left, top), gid in by_place.items() if 0 <= x - left < 0.98 and 0 <= y - top < 0.9), None)


def test_no_cell_covers_another(data):
    (panel,) = render(FIGURE, data).axes
    corners = [(round(patch.get_x(), 6), round(patch.get_y(), 6)) for patch in panel.patches]
    assert len(set(corners)) == len(corners)
    rows = sorted({y for _, y in corners})
    assert min(b - a for a, b in pairwise(rows)) > 0.9
    assert {x for x, _ in corners} == set(range(COLUMNS))


def test_names_fit_their_cells(data):
    canvas = render(FIGURE, data)
    (panel,) = canvas.axes
    names = set(data["claim"])
    right = panel.transData.inverted()
    for text in panel.texts:
        if text.get_text() in names:
            box = text.get_window_extent(canvas.canvas.get_renderer())
            assert right.transform((box.x1, box.y0))[0] <= int(text.get_position()[0]) + 0.98


def test_the_caption_counts(data, recorded):
    text, count = FIGURE.caption(data), Counter(recorded.values())
    assert f"Of {len(recorded)} claims {count['holds']} hold as stated" in text
    assert f"{count['holds-if']} need an assumption" in text
    assert f"{count['fails']} fail and {count['not-checkable']} cannot be checked" in text
    assert text.count(". ") == 1


def test_the_caption_follows_the_verdicts(data):
    text = FIGURE.caption(data.assign(verdict="holds", expected="fails"))
    assert "By paper the failures are none, and none of" in text

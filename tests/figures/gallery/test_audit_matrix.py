"""The audit's table as a picture: the README's words, a tone for each, what is drawn and said."""

import json
from pathlib import Path

import pytest

from figures.build import render
from figures.gallery.audit_matrix import FIGURE, FILLS, HEADINGS, NONE, Config, tone
from tests.figures.gallery import closed_forms
from theory.audit.run import MATRIX, matrix

COMMITTED = json.loads((Path(__file__).parents[3] / "docs" / "audit.json").read_text())
METHODS = ("rlhf", "reward")


@pytest.fixture(scope="module")
def data():
    return FIGURE.data(Config(METHODS))


def test_cells_are_those_of_the_committed_audit(data):
    committed = {row[0]: list(row[1:]) for row in matrix(COMMITTED)}
    for method in METHODS:
        assert list(data.loc[data["method"] == method, "cell"]) == committed[method]
        assert list(data.loc[data["method"] == method, "property"]) == list(MATRIX)


def test_the_floor_by_formula(data):
    floors = data.drop_duplicates("method").set_index("method")["floor"]
    assert floors["rlhf"] == pytest.approx(closed_forms.rlhf_floor(), rel=1e-5)
    assert floors["reward"] == pytest.approx(0, abs=1e-12)


def test_every_word_of_every_audit_has_a_tone():
    tones = {
        (column, cell): tone(column, cell) for _, *cells in matrix(COMMITTED) for column, cell in zip(MATRIX, cells, strict=True)
    }
    assert set(tones.values()) == set(FILLS)
    assert tones["consistent", "yes"] == tones["over-opt.", "no"] == "good"
    assert tones["consistent", "no"] == tones["over-opt.", "yes"] == "bad"
    assert tone("efficiency", "97%") == "mixed"
    assert tone("coverage", "0.82") == tone("displaces", "–") == NONE


def test_an_unknown_word_is_no_tone():
    with pytest.raises(KeyError):
        tone("noise", "perhaps")


def test_the_picture_holds_the_table(data):
    (panel,) = render(FIGURE, data).axes
    fills = {patch.get_gid(): patch for patch in panel.patches}
    texts = {(round(text.get_position()[0], 2), round(text.get_position()[1], 2)): text.get_text() for text in panel.texts}
    for method, column, cell, tone_ in data[["method", "property", "cell", "tone"]].itertuples(index=False):
        patch = fills[f"{method} {column} {tone_}"]
        assert texts[round(patch.get_x() + 0.48, 2), round(patch.get_y() + 0.45, 2)] == cell
    assert len(panel.patches) == len(data) + len(FILLS)
    assert set(HEADINGS) == set(MATRIX)
    assert set(HEADINGS.values()) <= {text.get_text() for text in panel.texts}


def test_the_nearest_to_the_target_stands_on_top(data):
    (panel,) = render(FIGURE, data).axes
    heights = {text.get_text(): text.get_position()[1] for text in panel.texts}
    assert heights["reward"] < heights["rlhf"]


def test_the_caption_holds_the_numbers(data):
    text = FIGURE.caption(data)
    floor = f"{closed_forms.rlhf_floor():.2g} (RLHF) nats"
    assert text.startswith(f"Of 2 objectives the reward model is consistent, and the rest stops {floor} from the target.")
    assert "Flipped labels harm 1 of 1 consistent objectives and none of 1 others." in text
    assert text.count(". ") == 1


def test_the_caption_follows_other_outcomes(data):
    worse = data.assign(cell=data["cell"].where(data["property"] != "consistent", "no"))
    assert FIGURE.caption(worse).startswith("Of 2 objectives none is consistent")
    better = data.assign(cell=data["cell"].where(~data["property"].isin(["consistent", "separable"]), "yes"))
    text = FIGURE.caption(better)
    assert text.startswith("Of 2 objectives the reward model and RLHF are consistent. Flipped labels harm 1 of 2 consistent")

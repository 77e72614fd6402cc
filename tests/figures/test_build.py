"""Pictures are drawn where something changed, are the same file every time, and a folder never mixes two orders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from figures import drawing, records, registry
from figures.build import build, build_all, check, parse_formats, render, up_to_date
from theory.errors import UserError

FORMATS = ("pdf", "svg", "png")
STARTS = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}


def one(name, order):
    (built,) = build_all([name], order, 1)
    return built


def test_every_format_the_caption_and_the_record_are_written(order):
    order = replace(order, formats=FORMATS)
    built = one("squares", order)
    assert [path.name for path in built.files] == ["squares.pdf", "squares.svg", "squares.png"]
    for path in built.files:
        assert path.read_bytes().startswith(STARTS[path.suffix[1:]])
    assert (order.out / "squares.txt").read_text() == "There are 5 numbers ≥ 1. The <largest> square is 25.\n"
    record = json.loads((order.out / "squares.json").read_text())
    assert (record["figure"], record["caption"], record["fast"]) == ("squares", built.caption, False)
    assert record["config"] == {"last": 5, "power": 2}
    assert set(record["files"]) == {path.name for path in built.files}
    assert {path.name for path in order.out.iterdir()} == {*record["files"], "squares.txt", "squares.json", "index.html"}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_data_are_the_same_file(order, kind):
    order = replace(order, formats=(kind,))
    first = one("squares", order).files[0].read_bytes()
    again = one("squares", replace(order, out=order.out / "again")).files[0].read_bytes()
    alone = one("squares", replace(order, out=order.out / "more", formats=FORMATS)).files[FORMATS.index(kind)].read_bytes()
    assert first == again == alone


def test_the_axes_hold_the_data(gallery):
    figure = registry.get("squares")
    data = figure.data(figure.config)
    drawn = render(figure, data)
    top, bottom = drawn.axes
    assert tuple(drawn.get_size_inches()) == (6.9, 2.2)
    np.testing.assert_array_equal(top.lines[0].get_xydata(), data[["x", "y"]])
    np.testing.assert_array_equal(bottom.lines[0].get_ydata(), data["x"])


def test_labels_keep_clear_of_each_other_after_the_layout(gallery):
    figure = registry.get("squares")
    drawn = render(figure, figure.data(figure.config))
    low, high = sorted((text.get_window_extent().y0, text.get_window_extent().y1) for text in drawn.axes[0].texts)
    assert low[1] <= high[0]
    _, y = drawn.axes[0].transData.transform((5, 25))
    middle = (low[0] + high[1]) / 2
    assert middle == pytest.approx(y, abs=1.5)  # pixels: one label as far above the point as the other below


def test_nothing_is_done_twice(order, computed):
    assert one("squares", order).data == "computed"
    before = {path: path.stat().st_mtime_ns for path in order.out.iterdir() if path.name != "index.html"}
    again = one("squares", order)
    assert again.data == "unchanged"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(computed) == 1
    assert one("squares", replace(order, out=order.out / "more")).data == "cache"
    assert len(computed) == 1


@pytest.mark.parametrize(
    ("file", "broken"),
    [
        ("squares.svg", None),
        ("squares.svg", b"<svg/>"),
        ("squares.txt", None),
        ("squares.txt", b"\xff\xfe"),
        ("squares.json", None),
        ("squares.json", b"{"),
        ("squares.json", b"[]"),
        ("squares.json", b"{}"),
        ("squares.json", b"\xff\xfe"),
    ],
)
def test_what_was_broken_is_drawn_again(order, file, broken):
    whole = one("squares", order)
    content = (order.out / file).read_bytes()
    if broken is None:
        (order.out / file).unlink()
    else:
        (order.out / file).write_bytes(broken)
    again = one("squares", order)
    assert again == replace(whole, data="cache")
    assert (order.out / file).read_bytes() == content


def test_a_record_with_fields_of_other_kinds_is_none(order):
    one("squares", order)
    path = order.out / "squares.json"
    record = json.loads(path.read_text())
    for changed in ({"files": ["squares.svg"]}, {"key": 1}, {"figure": "lines"}, {"more": 1}):
        path.write_text(json.dumps({**record, **changed}))
        assert records.read(order.out, "squares") is None
    path.write_text(json.dumps(record))
    assert records.read(order.out, "squares") is not None


def test_fast_and_full_replace_each_other(order):
    fast, full = replace(order, fast=True), order
    assert "3 numbers" in one("squares", fast).caption
    assert records.read(order.out, "squares").fast is True
    assert up_to_date("squares", full) is None
    assert "5 numbers" in one("squares", full).caption
    assert records.read(order.out, "squares").fast is False
    assert up_to_date("squares", fast) is None
    # Where both mean the same, one serves for the other, and is not called fast.
    one("lines", fast)
    assert records.read(order.out, "lines").fast is False
    assert one("lines", full).data == "unchanged"


def test_formats_added_later_compute_nothing_and_keep_the_others(order, computed):
    one("squares", replace(order, formats=("svg",)))
    assert one("squares", replace(order, formats=("png",))).data == "cache"
    assert len(computed) == 1
    assert one("squares", replace(order, formats=("svg", "png"))).data == "unchanged"


def test_pictures_of_older_data_do_not_stay_beside_a_new_caption(order):
    one("squares", replace(order, formats=("svg", "png", "pdf")))
    (order.out / "squares.pdf").write_text("somebody's own by now")
    one("squares", replace(order, formats=("svg",), fast=True))
    assert not (order.out / "squares.png").exists()
    assert (order.out / "squares.pdf").read_text() == "somebody's own by now"
    assert set(records.read(order.out, "squares").files) == {"squares.svg"}


def test_the_picture_depends_on_its_code_and_layout(gallery):
    figure = registry.get("squares")
    other = registry.get("lines")
    changed = [
        replace(figure, title="another"),
        replace(figure, layout=replace(figure.layout, height=3.0)),
        replace(figure, draw=other.draw),
        replace(figure, caption=other.caption),
    ]
    assert len({drawing.digest(one) for one in [figure, *changed]}) == 5
    assert drawing.digest(replace(figure, data=other.data)) == drawing.digest(figure)


def test_the_results_of_an_order_are_read(order, runs):
    order = replace(order, results=runs)
    assert one("runs", order).caption == "There are 2 steps. The last loss is 0.6."
    assert one("runs", order).data == "unchanged"
    with pytest.raises(UserError, match=r"--results .* is missing; make it with: llm consistency --out nowhere"):
        check(["squares", "runs"], replace(order, results=runs / "none"))


@pytest.mark.parametrize("argument", ["out", "cache"])
@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_in_place_of_a_folder_is_refused_before_any_work(order, computed, tmp_path, argument, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"^--{argument} .*file.* cannot be written: (File exists|Not a directory)$"):
        one("squares", replace(order, **{argument: tmp_path / "file" / below}))
    assert computed == []


def test_a_folder_that_takes_no_files_is_refused_before_any_work(order, computed, monkeypatch):
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"^--out .* cannot be written: Permission denied$"):
        one("squares", order)
    assert computed == []


def test_a_disk_that_is_full_when_the_picture_is_saved_is_one_line(order, monkeypatch):
    def refuse(canvas, kind, path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drawing, "save", refuse)
    with pytest.raises(UserError, match=r"^--out .* cannot be written: No space left on device$"):
        one("squares", order)
    assert list(order.out.iterdir()) == []


@pytest.mark.parametrize("part", ["data", "draw", "caption"])
def test_a_mistake_in_a_figure_keeps_its_type_and_names_the_figure(order, monkeypatch, part):
    def wrong(*_: object) -> None:
        raise OSError("a file that the figure wants")  # an error of the disk, but not of the folders given

    figure = replace(registry.get("lines"), **{part: wrong})
    monkeypatch.setattr(registry, "get", lambda name: figure)
    monkeypatch.setattr("figures.cache.data_key", lambda *_: "key")
    with pytest.raises(OSError, match="that the figure wants") as caught:
        build("lines", order)
    assert caught.value.__notes__ == ["while building the figure lines"]


def test_formats():
    assert parse_formats("SVG, png,svg") == ("svg", "png")
    with pytest.raises(UserError, match="--formats pgn: did you mean png"):
        parse_formats("svg,pgn")
    with pytest.raises(UserError, match="name at least one of pdf, svg, png"):
        parse_formats(" ,")

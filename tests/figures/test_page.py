"""The page shows every figure that the folder holds."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from figures import page
from figures.build import build_all
from theory.errors import UserError


class Links(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.files: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "img":
            self.images.append(given)
        if tag == "a":
            self.files.append(given["href"])

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(folder) -> Links:
    return Links((folder / page.NAME).read_text(encoding="utf-8"))


def test_the_page_holds_pictures_captions_and_files(order):
    list(build_all(["lines", "squares"], replace(order, formats=("svg", "png")), 1))
    shown = read(order.out)
    assert [image["src"] for image in shown.images] == ["lines.png", "squares.png"]
    assert [image["style"].split(";")[0] for image in shown.images] == ["width: 4.69in", "width: 9.66in"]
    assert shown.images[1]["alt"] == "There are 5 numbers ≥ 1. The <largest> square is 25."
    assert shown.files == ["lines.svg", "lines.png", "squares.svg", "squares.png"]
    assert all((order.out / file).is_file() for file in shown.files)
    for words in ("2 figures", "squares & more", "The <largest> square is 25.", "nowhere Fig. 2.", "figures data lines"):
        assert words in shown.text
    assert "--fast" not in shown.text


def test_the_page_keeps_what_earlier_builds_left_and_says_what_is_fast(order):
    list(build_all(["squares"], replace(order, fast=True), 1))
    list(build_all(["lines"], replace(order, formats=("pdf",)), 1))
    shown = read(order.out)
    assert [image["src"] for image in shown.images] == ["squares.svg"]
    assert shown.files == ["lines.pdf", "squares.svg"]
    assert "drawn with --fast" in shown.text
    assert "figures data squares --fast" in shown.text


def test_files_that_are_no_records_are_passed_by(order):
    order.out.mkdir()
    (order.out / "package.json").write_text('{"name": "somebody\'s"}')
    (order.out / "broken.json").write_text("{")
    list(build_all(["lines"], order, 1))
    assert "1 figure a line" in read(order.out).text


def test_somebody_elses_page_is_not_overwritten(order, computed):
    order.out.mkdir()
    (order.out / page.NAME).write_text("<h1>my homepage</h1>")
    with pytest.raises(UserError, match=r"--out .* holds an index\.html that is not of this program"):
        list(build_all(["squares"], order, 1))
    assert (order.out / page.NAME).read_text() == "<h1>my homepage</h1>"
    assert computed == []

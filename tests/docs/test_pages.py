"""The pages with Python on them print what they show."""

from __future__ import annotations

import doctest
import os
import re
import sys
from pathlib import Path

import pytest

from theory.objectives import registry

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if ">>> " in path.read_text(encoding="utf-8"))
ONE_FENCE = re.compile(r"^```.*$", re.MULTILINE)


def test_the_pages_that_promise_python_have_it():
    assert set(PAGES) == {"add-an-objective.md", "solvers.md"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_prints_what_it_shows(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # A page registers a method, which other tests must not find.
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    # The pages call the commands by name, as a reader's shell finds them.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    # A fence would be taken for the last line of what is printed.
    text = ONE_FENCE.sub("", (DOCS / name).read_text(encoding="utf-8"))
    page = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with capsys.disabled():
        found = runner.run(page)
    assert found.attempted > 10
    assert found.failed == 0

"""The tutorial runs from start to end and says what is written in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# Trained in float32, on processors that round in their own ways, and printed to a few digits.
TOLERANCE = {"rel": 0.1, "abs": 2e-3}


def _cells(path: Path = DOCS / "tutorial.ipynb") -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def _printed(cells: list[dict]) -> list[str]:
    """The text that each code cell printed."""
    code = (cell for cell in cells if cell["cell_type"] == "code")
    return ["".join("".join(o.get("text", "")) for o in cell["outputs"]) for cell in code]


def test_a_run_says_what_the_notebook_shows(tmp_path):
    copy = tmp_path / "copy.ipynb"
    # Jupyter's client leaves sockets to the garbage collector, which this process would report as errors.
    subprocess.run([sys.executable, str(DOCS / "notebook.py"), str(copy)], check=True, capture_output=True, timeout=900)
    before, after = _printed(_cells()), _printed(_cells(copy))
    assert [NUMBER.sub("#", text) for text in after] == [NUMBER.sub("#", text) for text in before]
    for new, old in zip(after, before, strict=True):
        assert [float(x) for x in NUMBER.findall(new)] == pytest.approx([float(x) for x in NUMBER.findall(old)], **TOLERANCE)


def test_what_its_prose_says_is_what_it_printed():
    printed = "\n".join(_printed(_cells()))
    assert "a mixture: exactly proportional to π*^2.000 · π_ref^0.000" in printed
    assert "π*: the target itself" in printed
    tolerated = {name: float(share) for name, share in re.findall(r"(\w+): ([\d.]+)% flipped labels", printed)}
    assert 0 < tolerated["repaired"] - tolerated["pmle"] < 1
    used = {name: float(share) for name, share in re.findall(r"(\w+): .*efficiency (\d+)%", printed)}
    assert used["repaired"] < used["pmle"] == 100
    before, after = (float(x) for x in re.search(r"nats: ([\d.]+) before training, ([\d.]+) after", printed).groups())
    floor = float(re.search(r"exact table: ([\d.]+)", printed).group(1))
    assert before < after == pytest.approx(floor, rel=0.2)
    for method in ("pmle", "repaired"):
        few, many = re.findall(rf"{method}, n = +\d+: transformer ([\d.]+), table ([\d.]+)", printed)
        assert all(float(more) < float(less) / 5 for more, less in zip(many, few, strict=True))


def test_nothing_of_a_run_is_kept_but_its_results():
    for cell in _cells():
        assert cell["metadata"] == {}
        assert not any(output["output_type"] == "error" for output in cell.get("outputs", []))
    text = (DOCS / "tutorial.ipynb").read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert len(text) < 300_000

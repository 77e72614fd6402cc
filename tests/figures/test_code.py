"""The digest of code changes with the code that is run, and with no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from figures import code

FILES = {
    "__init__.py": "",
    "main.py": """
from __future__ import annotations
from typing import TYPE_CHECKING
from ROOM.direct import thing
from ROOM import attribute
import ROOM.deep.inner
if TYPE_CHECKING:
    from ROOM.typed import Type

WIDTH = 3
TYPED: int = 4
GROWN = [1]
GROWN.append(5)
TABLE = {}
TABLE["key"] = 6
for _value in range(7):
    TABLE[_value] = 8
if WIDTH > 2:
    def chosen(): return 9
else:
    def chosen(): return 10
try:
    import ROOM.tried as tried
except ImportError:
    tried = None

def helper(): return WIDTH + TYPED + chosen()

def decorator(function): return function

class Config:
    size = 11
    def method(self): return 12

@decorator
def data(config: Config):
    from ROOM.lazy import late
    def inner(): return 13
    return thing() + helper() + inner() + attribute.value + ROOM.deep.inner.x + len(GROWN) + len(TABLE) + tried.x + late

def draw(): return elsewhere() + 14

def elsewhere(): from ROOM.drawn import ink; return 15

FIGURE = (data, draw, 16)
""",
    "direct.py": "from ROOM.indirect import far\ndef thing(): return 1",
    "indirect.py": "far = 1",
    "attribute.py": "value = 1",
    "deep/__init__.py": "from ROOM.beside import x",
    "deep/inner.py": "x = 1",
    "beside.py": "x = 1",
    "lazy.py": "late = 1",
    "tried.py": "x = 1",
    "typed.py": "Type = 1",
    "drawn.py": "ink = 1",
    "alone.py": "x = 1",
}
NAME = "made_up_room"


@dataclass
class Room:
    """A package of ours that is edited."""

    folder: Path
    forget: Callable[[], None]
    files: dict[str, str] = field(default_factory=lambda: dict(FILES))

    def edit(self, file: str, old: str, new: str) -> None:
        assert old in self.files[file]
        self.files[file] = self.files[file].replace(old, new) if old else new

    def digest(self, start: str | None = "data") -> str:
        """Of ``main.py``."""
        for path, text in self.files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace("ROOM", NAME))
        self.forget()
        return code.digest(f"{NAME}.main", start)


@pytest.fixture
def room(tmp_path, monkeypatch, forget) -> Room:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code, "ROOMS", (NAME,))
    return Room(tmp_path / NAME, forget)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("main.py", "inner(): return 13", "inner(): return 0"),
        ("main.py", "WIDTH = 3", "WIDTH = 0"),
        ("main.py", "TYPED: int = 4", "TYPED: int = 0"),
        ("main.py", "GROWN.append(5)", "GROWN.append(0)"),
        ("main.py", '["key"] = 6', '["key"] = 0'),
        ("main.py", "range(7)", "range(0)"),
        ("main.py", "return 9", "return 0"),
        ("main.py", "return 10", "return 0"),
        ("main.py", "size = 11", "size = 0"),
        ("main.py", "def decorator(function): return function", "def decorator(function): return None"),
        ("direct.py", "return 1", "return 0"),
        ("indirect.py", "far = 1", "far = 0"),
        ("attribute.py", "value = 1", "value = 0"),
        ("deep/inner.py", "x = 1", "x = 0"),
        ("deep/__init__.py", "import x", "import x as y"),
        ("beside.py", "x = 1", "x = 0"),
        ("lazy.py", "late = 1", "late = 0"),
        ("tried.py", "x = 1", "x = 0"),
        ("__init__.py", "", "x = 0"),
    ],
)
def test_what_data_reaches_changes_the_digest(room, file, old, new):
    before = room.digest()
    room.edit(file, old, new)
    assert room.digest() != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("main.py", "return elsewhere() + 14", "return 0"),
        ("main.py", "return 15", "return 0"),
        ("main.py", "draw, 16", "draw, 0"),
        ("main.py", "def helper()", "# a remark\ndef helper()"),
        ("typed.py", "Type = 1", "Type = 0"),
        ("drawn.py", "ink = 1", "ink = 0"),
        ("alone.py", "x = 1", "x = 0"),
    ],
)
def test_what_it_does_not_reach_leaves_the_digest(room, file, old, new):
    before = room.digest()
    room.edit(file, old, new)
    assert room.digest() == before


@pytest.mark.parametrize(("file", "old", "new"), [("main.py", "return 15", "return 0"), ("drawn.py", "ink = 1", "ink = 0")])
def test_a_whole_module_includes_its_drawing(room, file, old, new):
    before = room.digest(start=None)
    room.edit(file, old, new)
    assert room.digest(start=None) != before


@pytest.mark.parametrize("name", ['f"{__name__}.{name}"', 'f"ROOM.parts.{name}"', "name"])
def test_a_computed_import_depends_on_all_that_it_may_mean(room, name):
    room.files["deep/__init__.py"] = "import ROOM.parts"
    room.files["parts/__init__.py"] = f"import importlib\nfor name in []: importlib.import_module({name})"
    before = room.digest()
    room.files["parts/new.py"] = "x = 1"
    added = room.digest()
    room.files["parts/new.py"] = "x = 2"
    assert len({before, added, room.digest()}) == 3


def test_an_import_of_a_fixed_name_depends_on_that_alone(room):
    room.files["lazy.py"] = 'from importlib import import_module\nlate = import_module("ROOM.drawn").ink'
    before = room.digest()
    room.edit("alone.py", "x = 1", "x = 0")
    assert room.digest() == before
    room.edit("drawn.py", "ink = 1", "ink = 0")
    assert room.digest() != before


def test_a_name_that_is_not_defined_is_no_empty_digest(room):
    with pytest.raises(LookupError, match="does not define nothing"):
        room.digest(start="nothing")


def test_nothing_is_loaded_that_the_closure_leaves_out():
    """What Python itself loads, against what was read from the text."""
    roots = ["theory.audit.run", "theory.plotting", "theory.sweeps.run", "paper_checks.claims"]
    load = f"import sys\nfor name in {roots!r}: __import__(name)\n"
    program = load + "sys.modules['paper_checks.claims'].claims()\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.split(".")[0] in code.ROOMS}
    assert len(ours) > 80
    assert ours <= code.closure(roots)

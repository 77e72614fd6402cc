"""Several figures at once, in processes of their own; what goes wrong in one of them ends in one line or in its traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import figures as room
from tests.figures import bad, toys

# Seconds after which something hangs, even on a busy machine.
PATIENCE = 300


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of `figures` whose gallery is made up: worker processes import it from where they are started."""
    folder = tmp_path / "project"
    shutil.copytree(Path(room.__file__).parent, folder / "figures", ignore=shutil.ignore_patterns("gallery", "__pycache__"))
    (folder / "figures" / "gallery").mkdir()
    line = (Path(toys.__file__).parent / "lines.py").read_text()
    dots = line.replace('"lines"', '"dots"').replace("Config(), Config()", "Config(), Config(slope=3.0)")
    for name, text in {"__init__": "", "lines": line, "dots": dots}.items():
        (folder / "figures" / "gallery" / f"{name}.py").write_text(text)
    return folder


def add(project: Path, name: str) -> None:
    shutil.copy(Path(bad.__file__).parent / f"{name}.py", project / "figures" / "gallery")


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(project), "PREFPROOF_CACHE": str(project / "cache"), "COLUMNS": "160"}
    command = [sys.executable, "-m", "figures", "build", "--all", "--formats", "svg", "--jobs", "2", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=project, env=env, text=True, start_new_session=True, **pipes)


def pictures(project: Path) -> set[str]:
    return {path.name for path in (project / "pictures").glob("*.svg")}


def one_line(errors: str) -> str:
    (line,) = [line for line in errors.splitlines() if line.strip()]
    return line


def test_figures_are_built_together_and_left_alone_together(project):
    built = start(project, "--json")
    output, errors = built.communicate()
    assert (built.returncode, errors) == (0, "")
    assert [(one["name"], one["data"]) for one in json.loads(output)] == [("dots", "computed"), ("lines", "computed")]
    assert pictures(project) == {"dots.svg", "lines.svg"}
    again = start(project, "--json")
    assert [one["data"] for one in json.loads(again.communicate()[0])] == ["unchanged", "unchanged"]


def test_two_builds_of_one_folder_at_once_leave_whole_files(project):
    builds = [start(project, "--jobs", "1"), start(project, "--jobs", "1", "--fast")]
    assert [(build.communicate()[1], build.returncode) for build in builds] == [("", 0), ("", 0)]
    # Whoever was last, a third build finds or makes what it wants.
    dots, _ = json.loads(start(project, "--json").communicate()[0])
    assert dots["caption"] == "It starts at 0. It rises to 2."
    assert (project / "pictures" / "dots.txt").read_text() == dots["caption"] + "\n"


def test_a_refusal_in_another_process_is_one_line(project):
    add(project, "refuses")
    refused = start(project)
    output, errors = refused.communicate()
    assert (refused.returncode, output) == (2, "")
    assert one_line(errors) == "error: --fast: is not for this figure"
    assert pictures(project) == {"dots.svg", "lines.svg"}


def test_a_mistake_in_another_process_shows_where_it_is(project):
    add(project, "bug")
    failed = start(project)
    _, errors = failed.communicate()
    assert failed.returncode == 1
    assert "gallery/bug.py" in errors
    assert "ZeroDivisionError: float division by zero" in errors
    assert "while building the figure bug" in errors


def test_a_killed_process_is_one_line(project):
    add(project, "killed")
    killed = start(project)
    output, errors = killed.communicate()
    assert (killed.returncode, output) == (2, "")
    assert one_line(errors).startswith("error: --jobs 2: a process was killed")


@pytest.mark.parametrize("to_all", [False, True], ids=["the program alone", "its whole group, as a terminal does"])
def test_an_interrupt_keeps_what_is_done(project, to_all):
    add(project, "waits")
    waits = start(project)
    _until(lambda: (project / "waiting").exists() and len(list((project / "pictures").glob("*.json"))) == 2)
    (os.killpg if to_all else os.kill)(waits.pid, signal.SIGINT)
    output, errors = waits.communicate(timeout=PATIENCE)
    assert (waits.returncode, output) == (130, "")
    assert errors in ("", "interrupted\n")  # which, depends on the release of typer
    _until(lambda: not _alive(waits.pid))
    assert not list((project / "pictures").glob(".*"))
    shutil.rmtree(project / "figures" / "gallery" / "__pycache__", ignore_errors=True)
    (project / "figures" / "gallery" / "waits.py").unlink()
    assert [one["data"] for one in json.loads(start(project, "--json").communicate()[0])] == ["unchanged", "unchanged"]


def _alive(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _until(done) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_help_and_list_need_nothing_heavy():
    run = "import sys; from figures.cli import app; from theory.cli.program import run; code = run(app, {!r}); "
    check = "sys.exit(code or any(name in sys.modules for name in ('torch', 'pandas', 'matplotlib', 'scipy', 'joblib')))"
    for arguments, word in ((["--help"], "build"), (["list"], "figures data NAME"), (["list", "--json"], '"config"')):
        command = [sys.executable, "-c", run.format(arguments) + check]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert word in ran.stdout

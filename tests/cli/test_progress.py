import io

import rich.console
from rich.console import Console

from theory.cli.progress import Bar


def test_a_pipe_hears_nothing(capsys):
    with Bar("working", 2) as bar:
        bar.advance(what="one")
        bar.reach(2, 2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_steps_are_counted(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(rich.console, "Console", lambda **_: Console(file=shown, force_terminal=True, width=80))
    with Bar("working", total=5, done=2) as bar:
        bar.advance(what="third")
        assert (bar.progress.tasks[0].completed, bar.progress.tasks[0].total) == (3, 5)
        bar.expect(7)
        bar.reach(6, what="[sixth]")
        bar.progress.refresh()
        assert (bar.progress.tasks[0].completed, bar.progress.tasks[0].total) == (6, 7)
    assert "[sixth]" in shown.getvalue()
    assert "6/7" in shown.getvalue()


def test_another_process_may_be_the_one_that_speaks(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(rich.console, "Console", lambda **_: Console(file=shown, force_terminal=True, width=80))
    with Bar("working", 1, silent=True) as bar:
        bar.advance()
    assert shown.getvalue() == ""

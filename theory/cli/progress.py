"""The progress bar of every command that takes long."""

from __future__ import annotations

from typing import Any


class Bar:
    """A progress bar on the terminal, on standard error; silent elsewhere.

    Silent, because where there is no terminal even a bar that vanishes leaves an empty line.

    Args:
        what: is being done.
        total: steps in all; None until `expect` says it.
        done: steps that need not be taken.
        silent: on a terminal too: another process speaks.
    """

    def __init__(self, what: str, total: int | None = None, done: int = 0, *, silent: bool = False):
        self.what, self.total, self.done, self.silent = what, total, done, silent

    def __enter__(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        times = TimeElapsedColumn(), TimeRemainingColumn()
        columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), *times
        console = Console(stderr=True)
        self.progress = Progress(*columns, console=console, transient=True, disable=self.silent or not console.is_terminal)
        self.progress.__enter__()
        self.task = self.progress.add_task(self.what, total=self.total, completed=self.done)
        return self

    def expect(self, total: int) -> None:
        """Say how many steps there are."""
        self.progress.update(self.task, total=total)

    def advance(self, steps: int = 1, what: str | None = None) -> None:
        """Some more steps are done; ``what`` is being done now."""
        self.progress.update(self.task, advance=steps, description=what)

    def reach(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """So many steps are done, of so many; ``what`` is being done now."""
        self.progress.update(self.task, completed=done, total=total, description=what)

    def __exit__(self, *error: Any) -> None:
        self.progress.__exit__(*error)

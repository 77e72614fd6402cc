"""The command ``theory``."""

from __future__ import annotations

import sys
from importlib import import_module

from theory.cli import program
from theory.process import keep_memory

# Each command is a module of this package with a function of its name, imported when it is asked
# for, so that `theory --help` needs neither torch nor scipy.
app = program.program("theory", "Preference objectives on a table: what they converge to, how fast, and when they degenerate.")
COMMANDS = ("simulate", "audit", "sweep", "plot", "fit", "degeneracy", "methods", "instance")

for _name in COMMANDS:
    import_module(f"theory.cli.{_name}").register(app)
program.version_option(app)


def main() -> None:
    """Entry point."""
    keep_memory()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code."""
    return program.run(app, arguments)


if __name__ == "__main__":
    main()

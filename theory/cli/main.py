"""The command ``theory``: one line for every mistake, exit code 2, no traceback."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from theory.errors import UserError
from theory.process import keep_memory

# Some versions of typer carry a click of their own, so its error class is found through a public one.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# Each command is a module of this package with a function of its name, imported when it is asked
# for, so that `theory --help` needs neither torch nor scipy.
app = typer.Typer(
    name="theory",
    help="Preference objectives on a table: what they converge to, how fast, and when they degenerate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = ("simulate", "sweep", "plot", "fit", "degeneracy", "methods", "instance")

for _name in COMMANDS:
    import_module(f"theory.cli.{_name}").register(app)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from theory import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point."""
    keep_memory()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code."""
    try:
        code = app(arguments, standalone_mode=False)
    except UserError as error:
        return _say(str(error))
    except UsageError as error:
        return _say(_one_line(error)) if str(error) else 2  # no command: the help was printed
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("interrupted", err=True)
        return 130
    except typer.Exit as stop:
        return stop.exit_code
    return code if isinstance(code, int) else 0


def _one_line(error: Exception) -> str:
    text = error.format_message().rstrip(".").replace("\n", " ")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    return f"{text} (see {context.command_path} --help)" if context is not None else text


def _say(message: str) -> int:
    typer.echo(f"error: {message}", err=True)
    return 2


if __name__ == "__main__":
    main()

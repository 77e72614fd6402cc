"""What every command of this project does around typer: one line for every mistake, exit code 2, no traceback."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from theory.errors import UserError

# Some versions of typer carry a click of their own, so its error class is found through a public one.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# What a shell reports of a program that Ctrl-C ended.
INTERRUPTED = 130


def program(name: str, help_text: str) -> typer.Typer:
    """An application with the settings that all of ours share."""
    return typer.Typer(name=name, help=help_text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def version_option(app: typer.Typer) -> None:
    """Add ``--version``."""

    @app.callback(invoke_without_command=True)
    def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            from theory import __version__

            typer.echo(__version__)
            raise typer.Exit


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run a command line; the exit code."""
    try:
        code = app(list(arguments), standalone_mode=False)
    except UserError as error:
        return _say(str(error))
    except UsageError as error:
        return _say(_one_line(error)) if str(error) else 2  # no command: the help was printed
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except typer.Exit as stop:
        code = stop.exit_code
    if code == INTERRUPTED:  # some versions of typer make an exit code of Ctrl-C
        typer.echo("interrupted", err=True)
    return code if isinstance(code, int) else 0


def _one_line(error: Exception) -> str:
    text = error.format_message().rstrip(".").replace("\n", " ")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    return f"{text} (see {context.command_path} --help)" if context is not None else text


def _say(message: str) -> int:
    typer.echo(f"error: {message}", err=True)
    return 2

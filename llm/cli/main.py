"""The command ``llm``."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from theory.cli import program

# Each command is a module of this package, imported without torch, transformers or TRL.
app = program.program("llm", "Train language models with the objectives of `theory`, and measure them.")
COMMANDS = ("train", "consistency", "curves", "score", "data", "recipes", "plan")

# What the extra of that name brings.
EXTRA = {"accelerate", "datasets", "peft", "rapidfuzz", "safetensors", "tokenizers", "transformers", "trl", "yaml"}

for _name in COMMANDS:
    import_module(f"llm.cli.{_name}").register(app)
program.version_option(app)


def main() -> None:
    """Entry point."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code."""
    try:
        return program.run(app, arguments)
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        typer.echo(f"error: llm {error.name}: is not installed; pip install 'prefproof[llm]'", err=True)
        return 2


if __name__ == "__main__":
    main()

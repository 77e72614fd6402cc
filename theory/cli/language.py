"""Options of a random finite language, and what ``theory instance`` says of one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theory.cli.groups import RandomWorld
from theory.errors import UserError
from theory.instances.language import LENGTH, ORDER, PROMPTS, TOKENS

if TYPE_CHECKING:
    from theory.instances import Language

# Options of a table that a language has no use for, and the others that it takes itself.
_OF_A_TABLE = ("vocab", "contexts", "features", "realizable")


@dataclass(frozen=True)
class RandomLanguage:
    """The random language to draw instead of a table."""

    language: Annotated[bool, typer.Option("--language", help="A finite language: responses are strings of tokens.")] = False
    tokens: Annotated[int, typer.Option("--tokens", help="Of a language: tokens, T.")] = TOKENS
    length: Annotated[int, typer.Option("--length", help="Of a language: tokens in a response, L.")] = LENGTH
    prompts: Annotated[int, typer.Option("--prompts", help="Of a language: prompts, X.")] = PROMPTS
    order: Annotated[int, typer.Option("--order", help="Of a language: order of its Markov chains, 1 or 2.")] = ORDER
    eos: Annotated[bool, typer.Option("--eos", help="Of a language: responses may end before --length.")] = False

    def check(self, world: RandomWorld) -> None:
        """Raise `UserError` for an option of the other kind of world."""
        own = {f.name: f.default for f in fields(self) if f.name != "language"}
        table = {f.name: f.default for f in fields(world) if f.name in _OF_A_TABLE}
        given, unused = (world, table) if self.language else (self, own)
        remedy = "has no meaning with --language" if self.language else "needs --language"
        for name, default in unused.items():
            if (value := getattr(given, name)) != default:
                raise UserError(f"--{name}", None if value is True else value, remedy)

    def draw(self, seed: int, world: RandomWorld) -> Language:
        """The language of that seed; γ and the reference's distance are the world's."""
        from theory.instances import random_language

        sizes = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "language"}
        return random_language(seed, gamma=world.gamma, ref_noise=world.ref_noise, **sizes)


def language_facts(file: Path) -> dict[str, Any]:
    """What a file says of its language; nothing if it holds none."""
    from theory.instances.language_files import is_language, load_language

    if not is_language(file):
        return {}
    language = load_language(file)
    names = ("prompts", "tokens", "length", "order", "eos", "vocab", "gamma", "enumerable", "fingerprint")
    return {"language": True, **{name: getattr(language, name) for name in names}}

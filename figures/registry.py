"""All figures, found among the modules of `figures.gallery`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from figures import gallery
from figures.figure import Figure
from theory.errors import UserError, nearest


@cache
def names() -> list[str]:
    """Names of all figures; imports none of them. A module whose name starts with an underscore helps others."""
    modules = (module.name for module in pkgutil.iter_modules(gallery.__path__))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def get(name: str) -> Figure:
    """A figure; raises `UserError` with the nearest name."""
    if name not in names():
        raise UserError("NAME", name, nearest(name, names()))
    found: Figure = importlib.import_module(f"{gallery.__name__}.{name.replace('-', '_')}").FIGURE
    return found

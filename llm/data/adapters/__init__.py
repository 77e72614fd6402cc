"""One module for each source, each with an ``ADAPTER``; a new one needs no other change."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from llm.data.adapter import Adapter
from llm.data.schema import Row
from theory.errors import UserError, nearest


@functools.cache
def adapters() -> dict[str, Adapter]:
    """Every adapter by its name."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return {module.ADAPTER.name: module.ADAPTER for module in modules}


def named(name: str) -> Adapter:
    """The adapter of that name; raises `UserError`."""
    if name not in adapters():
        raise UserError("--adapter", name, nearest(name, adapters()))
    return adapters()[name]


def for_hub(hub_id: str) -> Adapter | None:
    """The adapter registered for a data set of the Hub, or None: then its columns decide."""
    return next((a for a in adapters().values() if hub_id.lower() in map(str.lower, a.hub_ids)), None)


def recognise(source: str, row: Row) -> Adapter:
    """The most specific adapter that recognises a source's first row; raises `UserError` if none does."""
    fitting = [adapter for adapter in adapters().values() if adapter.recognises(row)]
    if not fitting:
        found = ", ".join(map(str, sorted(row))) or "none"
        raise UserError(f"--data {source}", None, f"has the columns {found}; a preference set has prompt, chosen and rejected")
    return max(fitting, key=lambda adapter: adapter.specificity)

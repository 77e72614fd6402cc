"""Which code a result depends on: a digest that changes when, and only when, it does.

The code of a figure's data is the function ``data``, every definition of its module that it reaches, and the whole of
every module of this project that those import, directly or not. The drawing is not part of it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOMS = ("theory", "llm", "paper_checks", "figures")


def digest(module: str, start: str | None = None) -> str:
    """A hash of the code that ``module`` runs, or that its definition ``start`` reaches."""
    nodes = list(_reached(_tree(module), start)) if start is not None else [_tree(module)]
    found = hashlib.sha256("\n".join(ast.dump(node) for node in nodes).encode())
    for name in sorted(closure(imports(nodes, module))):
        found.update(name.encode() + _source(name))
    return found.hexdigest()


def closure(modules: Iterable[str]) -> set[str]:
    """The modules and all of ours that they import, directly or not."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(name)
    return found


def imports(nodes: Iterable[ast.AST], module: str) -> Iterator[str]:
    """Modules of ours that the code imports; absolute imports only, which is all that this project writes."""
    for top in nodes:
        for node in ast.walk(top):
            named: list[str] = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from (name for name in named if name.split(".")[0] in ROOMS and _path(name) is not None)


def _reached(tree: ast.Module, start: str) -> Iterator[ast.AST]:
    """Top-level statements that define ``start`` or a name that it reaches."""
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _binds(statement):
            definitions.setdefault(name, []).append(statement)
    seen: set[str] = set()
    waiting, kept = [start], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for statement in definitions.get(name, []):
            kept.add(statement)
            waiting += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return (statement for statement in tree.body if statement in kept)


def _binds(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in statement.names]
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


@cache
def _imported(module: str) -> list[str]:
    return list(imports([_tree(module)], module))


@cache
def _path(module: str) -> Path | None:
    """Where a module lies, found without importing what is around it; None for a name inside a module."""
    room, *rest = module.split(".")
    spec = importlib.util.find_spec(room)
    if spec is None or spec.origin is None:
        return None
    base = Path(spec.origin).parent.joinpath(*rest)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _source(module: str) -> bytes:
    path = _path(module)
    assert path is not None
    return path.read_bytes()


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))

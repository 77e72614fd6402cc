"""Which code a result depends on: a digest that changes when that code does.

The code of a figure's data is the function ``data``, every definition of its module that it reaches by name, and the
whole text of every module of this project that those import, directly or not, packages on the way included. The drawing
is not part of it, nor is what is imported for type checkers only.

A module that imports others by a computed name (``import_module(f"{__name__}.{x}")``) depends on all that the fixed part
of the name leaves open.
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
    """A hash of the code that ``module`` runs, or that its definition ``start`` reaches; raises `LookupError` without it."""
    nodes: list[ast.stmt] = list(_tree(module).body) if start is None else _reached(_tree(module), start)
    if not nodes:
        raise LookupError(f"{module} does not define {start}")
    found = hashlib.sha256("\n".join(ast.dump(node) for node in nodes).encode())
    for name in sorted(closure([*_packages(module), *imports(nodes, module)])):
        found.update(b"\0" + name.encode() + b"\0" + _source(name))
    return found.hexdigest()


def closure(modules: Iterable[str]) -> set[str]:
    """The modules and all of ours that importing them runs."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [*_packages(name), *_imported(name)]
    return found


def imports(nodes: Iterable[ast.AST], module: str) -> Iterator[str]:
    """Modules of ours that the code imports; absolute imports only, which is all that this project writes."""
    for node in _executed(nodes):
        named: Iterable[str] = ()
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and _name(node.func) == "import_module" and node.args:
            named = _computed(node.args[0], module)
        yield from (name for name in named if name.split(".")[0] in ROOMS and _path(name) is not None)


def _executed(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes and all inside them, but for what only type checkers see."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _computed(argument: ast.expr, module: str) -> list[str]:
    """The modules that a computed name may mean: below the package that its fixed beginning names, or all of ours."""
    beginning = ""
    for part in argument.values if isinstance(argument, ast.JoinedStr) else [argument]:
        if isinstance(part, ast.Constant):
            beginning += str(part.value)
        elif isinstance(part, ast.FormattedValue) and _name(part.value) == "__name__":
            beginning += module
        else:
            package, dot, _ = beginning.rpartition(".")
            return _below(package) if dot else [name for room in ROOMS for name in [room, *_below(room)]]
    return [beginning]


def _below(package: str) -> list[str]:
    """All modules inside a package."""
    path = _path(package)
    if path is None or path.name != "__init__.py":
        return []
    folder = path.parent
    parts = [file.relative_to(folder).with_suffix("").parts for file in sorted(folder.rglob("*.py"))]
    return [".".join([package, *(part for part in inner if part != "__init__")]) for inner in parts if inner != ("__init__",)]


def _packages(module: str) -> list[str]:
    """The packages around a module; importing it runs them first."""
    words = module.split(".")
    around = (".".join(words[:length]) for length in range(1, len(words)))
    return [name for name in around if _path(name) is not None]


def _reached(tree: ast.Module, start: str) -> list[ast.stmt]:
    """Top-level statements that define or change ``start`` or a name that it reaches."""
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
    return [statement for statement in tree.body if statement in kept]


def _binds(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement defines, or whose value it may change."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).split(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
    else:  # a loop, a condition, a bare call: whatever it mentions, and what is defined inside it
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.stmt) and node is not statement:
                yield from _binds(node)


def _name(node: ast.AST) -> str:
    """The last word of a name, with or without what it is an attribute of."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


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
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


@cache
def _source(module: str) -> bytes:
    path = _path(module)
    assert path is not None
    return path.read_bytes()


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))

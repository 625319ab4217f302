"""Where the code of an object of the reference is.

A public class says its public module, and is written in a private one. So it is looked for by its
name, in the source.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


def find(module: str, name: str) -> str | None:
    """Return the path and the lines of what a module exports by a name; None if it has no code.

    A member of a class that has no code of its own is looked for in the bases, and is where the
    class is if they have none either.
    """
    value: Any = import_module(module)
    for part in name.split("."):
        owner, value = value, getattr(value, part, None)
    names = [name]
    if isinstance(owner, type):
        member = name.rpartition(".")[2]
        names = [f"{base.__name__}.{member}" for base in owner.__mro__] + [owner.__name__]
    places = _places()
    folder = module.replace(".", "/")
    for each in names:
        # A package has the names that its modules define; a base class may be anywhere.
        found = places.get(each, {})
        inside = {path: lines for path, lines in found.items() if path.startswith(folder)}
        for path, (first, last) in (inside or found).items():
            return f"{path}#L{first}-L{last}"
    return None


@functools.cache
def _places() -> dict[str, dict[str, tuple[int, int]]]:
    """Return the lines of each name, by the files that define it."""
    places: dict[str, dict[str, tuple[int, int]]] = {}
    for path in sorted((_ROOT / "gzmqsource").rglob("*.py")):
        for name, node in _definitions(ast.parse(path.read_text()).body):
            file = str(path.relative_to(_ROOT))
            places.setdefault(name, {})[file] = (node.lineno, node.end_lineno or node.lineno)
    return places


def _definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(each, ast.Name):
                        yield prefix + each.id, node

"""Modules of pyzmq's show green classes to a program that imports from them after the patch.

``zmq.sugar.context.Context`` is the class that ``zmq.Context`` was, and a program that has imported
it before the patch has the green one. A program that imports it later gets the green one, too, but
the functions of these modules go on using their own: a plain context is the shadow of any other.
"""

from __future__ import annotations

import types
from typing import Any


class _Shown:
    """An attribute of a module that is another object to its functions, which read its globals."""

    def __init__(self, name: str, old: Any, new: Any) -> None:
        self._name = name
        self._old = old
        self._new = new

    def __get__(self, module: types.ModuleType, owner: type) -> Any:
        try:
            value = vars(module)[self._name]
        except KeyError:
            raise AttributeError(self._name) from None
        return self._new if value is self._old else value

    def __set__(self, module: types.ModuleType, value: Any) -> None:
        vars(module)[self._name] = self._old if value is self._new else value

    def __delete__(self, module: types.ModuleType) -> None:
        if vars(module).pop(self._name, self) is self:
            raise AttributeError(self._name)


def show(module: types.ModuleType, pairs: list[tuple[Any, Any]]) -> None:
    """Show the new objects in place of the old ones that a module has."""
    new = {id(old): new for old, new in pairs}
    shown = {
        name: _Shown(name, value, new[id(value)])
        for name, value in vars(module).items()
        if id(value) in new
    }
    if shown:
        module.__class__ = type("module", (type(module),), shown)

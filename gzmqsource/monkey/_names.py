"""Put new classes and functions in place of old ones, wherever a program has named those.

A program names a class by a global of a module (``from zmq import Context``), as the base of its
own class, by an attribute of its class, or as the default of a parameter. All of these can be
replaced, also within a ``staticmethod``, a ``classmethod`` or a `functools.partial` there. Objects
in a closure, an instance or a container are not found.
"""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

#: Modules that keep the plain classes: they define them, or serve other event loops.
PLAIN = (
    *("zmq._future", "zmq.asyncio", "zmq.eventloop", "zmq.auth.asyncio", "zmq.auth.ioloop"),
    *("zmq.backend", "zmq.sugar.context", "zmq.sugar.frame", "zmq.sugar.poll"),
    *("zmq.sugar.socket", "zmq.sugar.tracker"),
)

# Each of these reads or writes one thing and nothing else. With getattr, isinstance or vars, a lazy
# module might import the real module, and a proxy might call the real object.
_namespace_of_module = object.__getattribute__
_namespace_of_class = type.__dict__["__dict__"].__get__
_set_bases = type.__dict__["__bases__"].__set__
_set_in_class = type.__setattr__
_subclasses = type.__subclasses__


_WRAPPERS = frozenset({staticmethod, classmethod, functools.partial})
_NOTHING = (None, None)


class Replacements:
    """Old objects, with the object that is put in place of each."""

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        # By identity: the comparison of a proxy may do anything.
        self._pairs = {id(old): (old, new) for old, new in pairs if old is not new}

    def put_everywhere(self) -> list[str]:
        """Replace all names that are found; return the names of classes that keep an old base."""
        for name, module in list(sys.modules.items()):
            if not _is_ours(name) and not name.startswith(PLAIN):
                self._put_into_module(module)
        for found in gc.get_objects():
            kind = type(found)
            if kind is types.FunctionType:
                if found.__defaults__ or found.__kwdefaults__:
                    self._put_into_defaults(found)
            elif issubclass(kind, type):
                self._put_into_class(found)
        return [
            f"{cls.__module__}.{cls.__qualname__}"
            for old, new in self._pairs.values()
            if isinstance(old, type)
            for cls in _derived(old)
            if not _rebase(cls, old, new)
        ]

    def _changed(self, namespace: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the new values of the names that have an old one."""
        values = namespace.values()
        # The usual case, and it is checked in C.
        if self._pairs.keys().isdisjoint(map(id, values)) and _WRAPPERS.isdisjoint(
            map(type, values)
        ):
            return {}
        changed = {name: self._new(value) for name, value in list(namespace.items())}
        return {name: new for name, new in changed.items() if new is not None}

    def _new(self, value: Any) -> Any:
        """Return the replacement of a value; None if the value stays."""
        kind = type(value)
        if kind is functools.partial:
            new = self._new(value.func)
            return None if new is None else functools.partial(new, *value.args, **value.keywords)
        if kind is staticmethod or kind is classmethod:
            new = self._new(value.__func__)
            return None if new is None else kind(new)
        return self._pairs.get(id(value), _NOTHING)[1]

    def _put_into_module(self, module: Any) -> None:
        try:
            namespace = _namespace_of_module(module, "__dict__")
        except AttributeError:
            return
        if type(namespace) is dict:
            namespace.update(self._changed(namespace))

    def _put_into_class(self, cls: type) -> None:
        namespace = _namespace_of_class(cls)
        changed = self._changed(namespace)
        if changed and not _is_pyzmqs(namespace.get("__module__")):
            for name, new in changed.items():
                _set_in_class(cls, name, new)

    def _put_into_defaults(self, function: types.FunctionType) -> None:
        defaults = dict(enumerate(function.__defaults__ or ()))
        changed = self._changed(defaults)
        keywords = self._changed(function.__kwdefaults__ or {})
        if (changed or keywords) and not _is_pyzmqs(function.__module__):
            function.__defaults__ = tuple((defaults | changed).values()) or None
            function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), **keywords} or None


def let_see(module: types.ModuleType, zmq: types.ModuleType, seen: types.ModuleType) -> None:
    """Make a module see other classes, under whatever name it imports `zmq`."""
    for name, value in list(vars(module).items()):
        if value is zmq:
            setattr(module, name, seen)


def _derived(cls: type) -> Iterator[type]:
    """Yield the classes of the program that derive directly from a class of pyzmq's."""
    each: type
    for each in _subclasses(cls):
        if not _is_pyzmqs(_namespace_of_class(each).get("__module__")):
            yield each


def _rebase(cls: type, old: type, new: type) -> bool:
    """Have a class derive from *new*; return whether Python allows it."""
    if new not in cls.__mro__:
        try:
            _set_bases(cls, tuple(new if base is old else base for base in cls.__bases__))
        except TypeError:  # the layout of its instances differs, or the bases have no common order
            return False
    return True


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.split(".", 1)[0] == "gzmqsource"


def _is_pyzmqs(module: object) -> bool:
    """Return whether a module is pyzmq's, or this package's, whose names are meant."""
    return isinstance(module, str) and module.split(".", 1)[0] in ("zmq", "gzmqsource")

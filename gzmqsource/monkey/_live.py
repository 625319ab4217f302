"""Objects that were made before a patch, and still work as they were made."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from zmq.sugar.context import Context
from zmq.sugar.socket import Socket

#: The modules of the classes of asyncio, of the drop-in and of sources, which do not block.
_NEVER_BLOCK = ("zmq._future", "zmq.asyncio", "gzmqsource")


#: The fault of objects that were made before, by their module and their kind.
_CONSEQUENCES = {
    ("zmq", "Context"): "still block the whole hub, and so do their sockets",
    ("zmq", "Socket"): "still block the whole hub",
    ("zmq.green", "Context"): "are still those of zmq.green, and so are their sockets",
    ("zmq.green", "Socket"): "are still those of zmq.green",
}


def made_before(module: str) -> Iterator[str]:
    """Yield a sentence on each kind of object that the patch of a module did not reach."""
    found = _open_objects()
    contexts = {id(each) for (_, kind), each in found if kind == "Context"}
    groups = defaultdict(list)
    for (origin, kind), each in found:
        # A context stands for its sockets.
        if origin.startswith(module) and (kind == "Context" or id(each.context) not in contexts):
            groups[origin, kind].append(each)
    for (origin, kind), group in groups.items():
        what = _CONSEQUENCES[origin, kind]
        yield f"{len(group)} {origin}.{kind} made before {what}: {group[:3]}"


def _open_objects() -> list[tuple[tuple[str, str], Any]]:
    """Return the open contexts and sockets that are plain or of `zmq.green`, with their kind."""
    kinds: dict[type, tuple[str, str] | None] = {}
    found = []
    for each in gc.get_objects():
        # Not isinstance: it reads the class of a proxy, and so may evaluate the real object.
        cls = type(each)
        if cls not in kinds:
            kinds[cls] = _kind(cls)
        kind = kinds[cls]
        if kind is not None and not _is_over(each):
            found.append((kind, each))
    return found


def _kind(cls: type) -> tuple[str, str] | None:
    """Return the module and the kind of a class; None if its objects do not block."""
    if not issubclass(cls, (Context, Socket)):
        return None
    modules = [str(base.__module__) for base in cls.__mro__]
    if any(name.startswith(_NEVER_BLOCK) for name in modules):
        return None
    is_green = any(name.startswith("zmq.green") for name in modules)
    return "zmq.green" if is_green else "zmq", "Context" if issubclass(cls, Context) else "Socket"


def _is_over(each: Any) -> bool:
    """Return whether a context or socket is closed, or is only a view of one of asyncio's."""
    if isinstance(each, Context):
        return bool(each.closed)
    # `closed` would call libzmq for a socket that may belong to another thread.
    return bool(each._closed or each._shadow)

"""``patch_zmq()`` makes a program that imports zmq cooperative, as gevent does for sockets.

It replaces pyzmq's classes and functions by those of `gzmqsource.green`, in `zmq` and in the
submodules that re-export them. Call it where `gevent.monkey.patch_all` is called: before the rest
of the program is imported. It is also a gevent plugin, ``gevent.monkey.patch_all(zmq=True)``, and
``python -m gzmqsource.monkey script.py`` runs a program patched without changing it.

`zmq.asyncio`, ``ZMQStream`` and pyzmq's own internals keep the plain classes.
"""

from __future__ import annotations

import gc
import importlib
import sys
import types
import warnings
from typing import Any

__all__ = ["get_original", "is_patched", "patch_zmq"]

#: Modules that keep the plain classes: they define them, or serve other event loops.
_PLAIN = (
    *("zmq._future", "zmq.asyncio", "zmq.eventloop", "zmq.auth.asyncio", "zmq.auth.ioloop"),
    *("zmq.backend", "zmq.sugar.context", "zmq.sugar.frame", "zmq.sugar.poll"),
    *("zmq.sugar.socket", "zmq.sugar.tracker"),
)

#: Imported before patching, because they derive their classes from those in `zmq`.
_DERIVING = (
    *("zmq.asyncio", "zmq.eventloop.future", "zmq.eventloop.zmqstream", "zmq.auth.asyncio"),
    *("zmq.green", "zmq.devices"),
)

_originals: dict[str, Any] = {}


def patch_zmq() -> None:
    """Put green classes and functions in place of pyzmq's; a second call does nothing.

    Warns
    -----
    RuntimeWarning
        A context was made before: its sockets still block the whole hub.
    """
    if _originals:
        return
    import zmq

    from gzmqsource import green

    for name in _DERIVING:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # what it needs (tornado, asyncio) is not installed, so it is not used
    _warn_of_contexts(green.Context)
    plain = types.ModuleType("zmq")
    vars(plain).update(vars(zmq))
    for name in green.REPLACED:
        original = getattr(zmq, name, None)
        if original is None:
            original = getattr(sys.modules["zmq.devices"], name)
        _originals[name] = original
    green_ones = sys.modules["zmq.green"]
    replacements = {id(_originals[name]): new for name, new in green.REPLACED.items()}
    for name, new in green.REPLACED.items():
        replacements[id(getattr(green_ones, name, new))] = new
    for name, module in list(sys.modules.items()):
        if name != "zmq" and not name.startswith("zmq."):
            continue
        if name.startswith(_PLAIN):
            _keep_plain(module, zmq, plain)
        else:
            _replace(module, replacements)
    if not _threads_are_patched():
        # Then pyzmq's collector of zero-copy frames is a native thread.
        _keep_plain(importlib.import_module("zmq.utils.garbage"), zmq, plain)


def is_patched() -> bool:
    """Return whether `patch_zmq` was called."""
    return bool(_originals)


def get_original(name: str) -> Any:
    """Return pyzmq's own class or function of a name, such as ``get_original("Socket")``.

    Parameters
    ----------
    name : str
        A name in `zmq`.

    Raises
    ------
    AttributeError
        There is no such name in `zmq`.
    """
    import zmq

    return _originals[name] if name in _originals else getattr(zmq, name)


def _replace(module: types.ModuleType, replacements: dict[int, Any]) -> None:
    for name, value in list(vars(module).items()):
        new = replacements.get(id(value))
        if new is not None:
            setattr(module, name, new)


def _keep_plain(module: types.ModuleType, zmq: types.ModuleType, plain: types.ModuleType) -> None:
    """Make a module see the plain classes, under whatever name it imports `zmq`."""
    for name, value in list(vars(module).items()):
        if value is zmq:
            setattr(module, name, plain)


def _threads_are_patched() -> bool:
    from gevent.monkey import is_module_patched

    return bool(is_module_patched("threading"))


def _warn_of_contexts(green: type) -> None:
    from zmq.asyncio import Context as AsyncContext
    from zmq.sugar.context import Context

    made = [
        found
        for found in gc.get_objects()
        if isinstance(found, Context)
        and not isinstance(found, (green, AsyncContext))
        and not found.closed
    ]
    if made:
        warnings.warn(
            f"patch_zmq: {len(made)} zmq.Context made before still block the whole hub, "
            f"and so do their sockets: {made[:3]}. Patch before they are made.",
            RuntimeWarning,
            stacklevel=3,
        )


def _patch_with_gevent(event: Any) -> None:
    """Patch on ``gevent.monkey.patch_all(zmq=True)``; gevent calls this after each patch_all."""
    if event.patch_all_kwargs.get("zmq"):
        patch_zmq()

"""``patch_zmq()`` makes a program that imports zmq cooperative, as gevent does for sockets.

It replaces pyzmq's classes and functions by those of `gzmqsource.green`, in `zmq` and wherever they
were imported by name. Call it where `gevent.monkey.patch_all` is called: before the rest of the
program is imported. It is also a gevent plugin, ``gevent.monkey.patch_all(zmq=True)``, and
``python -m gzmqsource.monkey script.py`` runs an unchanged program with the patch. In a program
that patches itself, the plugin follows the environment: ``GZMQSOURCE_PATCH=1``.

`patch_zmq_green` replaces only the classes of `zmq.green`. Its other names are
``patch_all(zmq="green")`` and ``GZMQSOURCE_PATCH=green``.

`zmq.asyncio`, ``ZMQStream`` and pyzmq's own internals keep the plain classes.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
import warnings
from typing import Any, Literal

from gzmqsource.monkey._names import PLAIN, Replacements, let_see
from gzmqsource.monkey._state import lock, originals, patched
from gzmqsource.monkey._status import publish

__all__ = ["get_original", "is_patched", "patch_zmq", "patch_zmq_green"]

#: Imported before patching, because they derive their classes from those in `zmq`.
_DERIVING = (
    *("zmq.asyncio", "zmq.eventloop.future", "zmq.eventloop.zmqstream", "zmq.auth.asyncio"),
    *("zmq.auth.thread", "zmq.devices"),
)


def patch_zmq() -> None:
    """Put green classes and functions in place of pyzmq's; a second call does nothing.

    They are put into `zmq`, into `zmq.green`, and wherever the program has named the old ones
    before: in a global of a module (``from zmq import Context``), as the base or an attribute of a
    class, and as the default of a parameter. The modules of pyzmq's that define the old ones, such
    as ``zmq.sugar.context``, keep them.

    Warns
    -----
    RuntimeWarning
        A context was made before: its sockets still block the whole hub. Or a class cannot be given
        its new base; the warning has its module and name.
    """
    with lock:
        if "zmq" not in patched:
            _patch_zmq()


def patch_zmq_green() -> None:
    """Put the drop-in in place of `zmq.green` and ``eventlet.green.zmq``; leave `zmq` as it is.

    Names that the program has imported before are replaced as by `patch_zmq`. A second call does
    nothing, and neither does one after `patch_zmq`, which includes it.

    Warns
    -----
    RuntimeWarning
        A context of `zmq.green` was made before: it keeps the sockets of `zmq.green`. Or a class
        cannot be given its new base; the warning has its module and name.
    """
    with lock:
        if "zmq.green" not in patched:
            _patch_zmq_green()


def is_patched(module: Literal["zmq", "zmq.green"] = "zmq") -> bool:
    """Return whether a module was patched.

    Parameters
    ----------
    module : str
        ``"zmq"``, for `patch_zmq`, or ``"zmq.green"``, for `patch_zmq` or `patch_zmq_green`.
    """
    return module in patched


def get_original(name: str) -> Any:
    """Return pyzmq's own class or function with a name, such as ``get_original("Socket")``.

    Call it after the patch, which also replaces objects that this returned before.

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

    return originals[name] if name in originals else getattr(zmq, name)


def _patch_zmq() -> None:
    import zmq

    from gzmqsource import green
    from gzmqsource.monkey._green import replace_green_modules

    for name in _DERIVING:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # its requirement (tornado, asyncio) is not installed, so it is not used
    plain = types.ModuleType("zmq")
    vars(plain).update(vars(zmq))
    devices = importlib.import_module("zmq.devices")
    for name in green.REPLACED:
        originals[name] = getattr(zmq, name, None) or getattr(devices, name)
    pairs = [(originals[name], new) for name, new in green.REPLACED.items()]
    _patch("zmq", pairs + replace_green_modules())
    # Bound to the plain class. The devices that are replaced have a factory of their own.
    devices.Device.context_factory = green.Context.instance
    for name, module in list(sys.modules.items()):
        if name.startswith(PLAIN):
            let_see(module, zmq, plain)
    if _threads_are_patched():
        from gzmqsource.monkey import _authenticator

        _authenticator.run_natively(zmq, plain)
    else:
        # Then pyzmq's collector of zero-copy frames is a native thread.
        let_see(importlib.import_module("zmq.utils.garbage"), zmq, plain)


def _patch_zmq_green() -> None:
    from gzmqsource.monkey._green import replace_green_modules

    _patch("zmq.green", replace_green_modules())


def _patch(module: str, pairs: list[tuple[Any, Any]]) -> None:
    """Replace names, and report what is left as it was: in warnings, and to ``doctor --pid``."""
    # This imports zmq. gevent imports this module in every program that patches.
    from gzmqsource.monkey._live import made_before

    kept = Replacements(pairs).put_everywhere()
    left = [f"{name} keeps its base, which cannot be replaced" for name in kept]
    left += made_before(module)
    patched.update({module, "zmq.green"})
    publish(module, left)
    for text in left:
        warnings.warn(
            f"{module} is patched, but {text}. Patch before they are made.",
            RuntimeWarning,
            stacklevel=4,
        )


def _threads_are_patched() -> bool:
    from gevent.monkey import is_module_patched

    return bool(is_module_patched("threading"))


def _wanted_by_environment() -> bool | str:
    """Return the value of ``GZMQSOURCE_PATCH``: True, False or "green"."""
    value = os.environ.get("GZMQSOURCE_PATCH", "")
    if value not in ("", "0", "1", "green"):
        raise ValueError(f"GZMQSOURCE_PATCH={value!r}: use 1, green, or 0 for no patch")
    return value if value == "green" else value == "1"


def _patch_with_gevent(event: Any) -> None:
    """Patch on ``gevent.monkey.patch_all(zmq=True)``; gevent calls this after each patch_all."""
    wanted = event.patch_all_kwargs.get("zmq")
    if wanted is None:
        wanted = _wanted_by_environment()
    if wanted == "green":
        patch_zmq_green()
    elif isinstance(wanted, str):
        raise ValueError(f"patch_all(zmq={wanted!r}): use True, 'green', or False for no patch")
    elif wanted:
        patch_zmq()

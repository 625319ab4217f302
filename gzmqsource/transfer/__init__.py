"""Moving messages between a socket and Python.

Three calls do the work: read ``EVENTS``, receive up to a limit, send until ``EAGAIN``. None of them
ever waits, and each of them may consume the socket's edge.

There are two transfers. ``native`` is a loop in C over the libzmq that pyzmq has loaded; ``pure``
makes pyzmq's calls, and is used where the C extension was not built, on PyPy, and over pyzmq's cffi
backend. It is slower, and a warning is logged when the first socket is made.
``GZMQSOURCE_TRANSFER=native`` or ``pure`` in the environment forces one.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from zmq.backend import Socket as BackendSocket

from gzmqsource import __version__
from gzmqsource.transfer import message
from gzmqsource.transfer.interface import Backlog, Shortcuts, Transfer, Waiting
from gzmqsource.transfer.message import Message
from gzmqsource.transfer.pure import (
    PureAllowance,
    PureSizes,
    PureSlice,
    PureTransfer,
)
from gzmqsource.transfer.pure_shortcuts import PureShortcuts

__all__ = ["backend", "reason"]

#: A wheel that pip built without a compiler stays in its cache, and would be installed again.
_REINSTALL = "pip install --no-cache-dir --force-reinstall --no-deps gzmqsource"


def _choose() -> tuple[Any, str, str]:
    """Return the native module or None, the transfer's name, and the reason for it."""
    wanted = os.environ.get("GZMQSOURCE_TRANSFER")
    if wanted not in (None, "", "native", "pure"):
        raise ImportError(f"GZMQSOURCE_TRANSFER={wanted!r}: use native or pure")
    if wanted == "pure":
        return None, "pure", "GZMQSOURCE_TRANSFER=pure"
    try:
        # Not by its name as a string: PyInstaller would not see that, and leave it out.
        import gzmqsource.transfer.native as native

        check_version(native)
    except (ImportError, AttributeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == f"{__name__}.native"
        why = _why_missing() if missing else " ".join(str(error).split())
        if wanted == "native":
            raise ImportError(f"GZMQSOURCE_TRANSFER=native is not available: {why}") from error
        return None, "pure", f"the native transfer is not available: {why}"
    return native, "native", "GZMQSOURCE_TRANSFER=native" if wanted else "it was built"


def check_version(native: Any) -> None:
    """Refuse an extension that was left from another version: its calls may differ."""
    version = getattr(native, "version", None)
    if version != __version__:
        raise ImportError(f"it is of version {version}, and this is {__version__}: {_REINSTALL}")


def _why_missing() -> str:
    """Return why there is no extension, and how to get it if that is possible."""
    pyzmq = BackendSocket.__module__
    if not pyzmq.startswith("zmq.backend.cython"):
        return f"it needs pyzmq's backend in Cython, and this is {pyzmq}"
    folder = Path(__file__).parent
    if not folder.is_dir():
        return "Python loads no extension out of a zip: install gzmqsource, or unpack it"
    if others := sorted(path.name for path in folder.glob("native.*.so")):
        return f"it was built for another Python, as {', '.join(others)}: {_REINSTALL}"
    return f"it was not built: install a C compiler and Python's headers, then {_REINSTALL}"


_native, backend, reason = _choose()
"""Which transfer is in use, and why."""

if TYPE_CHECKING:
    Allowance = PureAllowance
    Sizes = PureSizes
    Slice = PureSlice
else:
    Allowance = PureAllowance if _native is None else _native.NativeAllowance
    Sizes = PureSizes if _native is None else _native.NativeSizes
    Slice = PureSlice if _native is None else _native.NativeSlice

weight_of: Callable[[Message], int] = message.weight_of if _native is None else _native.weight_of


def transfer_for(socket: zmq.Socket[Any]) -> Transfer:
    """Return the transfer of a socket."""
    if _native is None:
        _log_reason()
        return PureTransfer(socket)
    transfer: Transfer = _native.NativeTransfer(socket)
    return transfer


@functools.cache
def _log_reason() -> None:
    """Log, once in a process, that the transfer is slow, unless it was asked for."""
    if os.environ.get("GZMQSOURCE_TRANSFER") != "pure":
        logging.getLogger(__name__).warning("the transfer in Python is slower: %s", reason)


def shortcuts_for(
    transfer: Transfer, allowance: Allowance, backlog: Backlog, waiting: Waiting, copies: bool
) -> Shortcuts:
    """Return the shortcuts of a transfer."""
    make: Any = PureShortcuts if _native is None else _native.NativeShortcuts
    shortcuts: Shortcuts = make(transfer, allowance, backlog, waiting, copies)
    return shortcuts

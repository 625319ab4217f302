"""The state of the patch; like gevent's, it outlives ``importlib.reload`` of the package."""

from __future__ import annotations

from typing import Any

from gevent.monkey import get_original

#: pyzmq's own classes and functions, by name, once `zmq` is patched.
originals: dict[str, Any] = {}

#: The modules that were patched.
patched: set[str] = set()

#: Held by the thread that patches: two at once would take each other's classes for the originals.
lock = get_original("_thread", "RLock")()

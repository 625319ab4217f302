"""The time of the garbage collector, with which no socket is charged.

A collection comes in the turn of any socket, and takes longer the more objects there are.
"""

from __future__ import annotations

import gc
import time
from typing import Any, Protocol
from weakref import WeakValueDictionary

from gevent.monkey import get_original

_get_ident = get_original("_thread", "get_ident")


class Charging(Protocol):
    """An object that charges sockets with the CPU time of this thread."""

    def exempt(self, seconds: float) -> None:
        """Charge no socket with so many seconds, which have just passed."""


_charging: WeakValueDictionary[int, Charging] = WeakValueDictionary()
_began = 0.0


def exempt_collections(charging: Charging) -> None:
    """Have the CPU time of each collection in this thread exempted, while *charging* exists."""
    callbacks: list[Any] = getattr(gc, "callbacks", [])  # PyPy has none
    if _note not in callbacks:
        callbacks.append(_note)
    _charging[_get_ident()] = charging


def _note(phase: str, _: dict[str, int]) -> None:
    """Note the begin or the end of a collection; called in its thread, one after the other."""
    global _began
    charging = _charging.get(_get_ident())
    if charging is None:
        return
    if phase == "start":
        _began = time.thread_time()
    else:
        charging.exempt(time.thread_time() - _began)

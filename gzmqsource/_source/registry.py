"""All living sources, and their observer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import zmq

if TYPE_CHECKING:
    from gzmqsource._source.stats import Stats


class Registered(Protocol):
    """What this module knows of a source."""

    #: The name of its class, and the type of its socket.
    name: str
    kind: zmq.SocketType

    @property
    def endpoint(self) -> str:
        """The endpoint that was bound or connected last."""

    @property
    def closed(self) -> bool:
        """Whether its socket is gone, or belongs to the parent process."""

    def snapshot(self) -> Stats:
        """Return what it has done."""


class Observer(Protocol):
    """What observes the sources of this process."""

    def instrument(
        self, source: Registered, handle: Callable[[Any], object]
    ) -> Callable[[Any], object]:
        """Return what is called in place of a handler, for each of its messages."""

    def closing(self, source: Registered) -> None:
        """Note that a source is about to close; from now on its state says so."""


#: By their ids: the list of its references is made in one step, also for another thread.
live: weakref.WeakValueDictionary[int, Registered] = weakref.WeakValueDictionary()

#: The observer, if there is one.
observer: Observer | None = None


def instrumented(source: Registered, handle: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return what is to be called for each message: the handler itself without an observer."""
    return handle if observer is None else observer.instrument(source, handle)


def closing(source: Registered) -> None:
    """Note, for the observer, that a source is about to close."""
    if observer is not None:
        observer.closing(source)

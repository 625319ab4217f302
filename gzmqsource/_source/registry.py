"""All live sources, and their observer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import zmq

if TYPE_CHECKING:
    from gzmqsource._source.stats import Stats


class Owner(NamedTuple):
    """The owner of a source, which counts more about it."""

    #: ``"requester"``, ``"responder"``, ``"proxy"`` or ``"authenticator"``.
    kind: str
    #: Returns the numbers by their names; any thread may call it.
    counts: Callable[[], Mapping[str, int]]


class Registered(Protocol):
    """A source, as this module uses it."""

    #: The name of its class, and the type of its socket.
    name: str
    kind: zmq.SocketType
    owner: Owner | None

    @property
    def endpoint(self) -> str:
        """The endpoint that was bound or connected last."""

    @property
    def closed(self) -> bool:
        """Whether its socket is gone, or belongs to the parent process."""

    def snapshot(self) -> Stats:
        """Return its counters."""


class Observer(Protocol):
    """An observer of the sources of this process."""

    def instrument(
        self, source: Registered, handle: Callable[[Any], object]
    ) -> Callable[[Any], object]:
        """Return the function to call instead of a handler, for each of its messages."""

    def closing(self, source: Registered) -> None:
        """Note that a source is about to close; afterwards its state shows that."""


#: Sources by their ids: the list of references is made in one step, even for another thread.
live: weakref.WeakValueDictionary[int, Registered] = weakref.WeakValueDictionary()

#: The observer, if there is one.
observer: Observer | None = None


#: The last source of each owner; the source refers to its owner through the counts.
_owned: weakref.WeakKeyDictionary[object, weakref.ref[Registered]] = weakref.WeakKeyDictionary()


def own(source: Registered, kind: str, owner: object, counts: Callable[[], Any]) -> None:
    """Note the owner of a source; it may own several, one after another, and continue to count.

    Parameters
    ----------
    source : Registered
        The source.
    kind : str
        See `Owner`.
    owner : object
        Its owner.
    counts : callable
        Returns a mapping of the numbers, or a named tuple.
    """

    def numbers() -> Mapping[str, int]:
        counted = counts()
        return dict(counted) if isinstance(counted, Mapping) else dict(counted._asdict())

    def since_then() -> Mapping[str, int]:
        return {name: number - before.get(name, 0) for name, number in numbers().items()}

    before = numbers()
    last = _owned[owner]() if owner in _owned else None
    if last is not None and last.owner is not None:
        so_far = last.owner.counts()
        last.owner = Owner(kind, lambda: so_far)
    source.owner = Owner(kind, since_then)
    _owned[owner] = weakref.ref(source)


def instrumented(source: Registered, handle: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return the function to call for each message: the handler itself without an observer."""
    return handle if observer is None else observer.instrument(source, handle)


def closing(source: Registered) -> None:
    """Notify the observer that a source is about to close."""
    if observer is not None:
        observer.closing(source)

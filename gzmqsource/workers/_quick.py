"""The usual request in C, where the native transfer is in use; without it, Python does all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gzmqsource import transfer
from gzmqsource.workers import _calls

if TYPE_CHECKING:
    from gzmqsource._source.source import Source
    from gzmqsource.workers._calling import Calling
    from gzmqsource.workers._calls import AnyCall
    from gzmqsource.workers._handling import Handling
    from gzmqsource.workers._parts import Parts
    from gzmqsource.workers._places import Workers
    from gzmqsource.workers._reception import Reception
    from gzmqsource.workers.native import Clerk, Desk, Match


def _load() -> Any:
    """Return the extension, if it is of this version."""
    if transfer.backend != "native":
        return None
    try:
        import gzmqsource.workers.native as native

        transfer.check_version(native)
    except ImportError:
        return None
    return native


_native = _load()

#: `gzmqsource.workers._calls.filled`, or a quicker form of it.
filled = _calls.filled if _native is None else _native.filled


def desk_for(
    reception: Reception, handling: Handling, parts: Parts, source: Source[Any]
) -> Desk | None:
    """Return what does the usual case of a reception, and of a handling's `end`."""
    if _native is None:
        return None
    desk: Desk = _native.Desk(reception, handling, parts, source)
    return desk


def clerk_for(desk: Desk, workers: Workers, calling: Calling) -> Clerk:
    """Return what does the usual case of `Workers.begin`, and of `Calling.handle`."""
    clerk: Clerk = _native.Clerk(desk, workers, calling)
    return clerk


def match_for(
    desk: Desk, back: Any, parts: Parts, forwarding: Handling, worker_class: type
) -> Match:
    """Return what does the usual case of a broker's back."""
    match: Match = _native.Match(desk, back, parts, forwarding, worker_class)
    return match


def reader_of(connection: Any, dispatcher: Any) -> Callable[[list[Any]], None]:
    """Return what takes the messages of a requester's connection."""
    read: Callable[[list[Any]], None] = connection.received
    if _native is not None:
        read = _native.Ear(connection, dispatcher).read
    return read


def beginner_of(dispatcher: Any, most: int, most_bytes: int) -> Callable[[AnyCall], None]:
    """Return what begins with the calls of a requester."""
    begin: Callable[[AnyCall], None] = dispatcher.send_first
    if _native is not None:
        begin = _native.Mouth(dispatcher, most, most_bytes).begin
    return begin

"""Sending through a source from anywhere: its own greenlets, other threads' hubs and threads."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from gevent._hub_local import get_hub_if_exists
from gevent.queue import Full

from gzmqsource._base.hubs import call_in_hub
from gzmqsource._source.core import Core
from gzmqsource._source.refusals import check_block, no_room
from gzmqsource.errors import SourceClosed
from gzmqsource.transfer.message import AnyMessage

if TYPE_CHECKING:
    from typing_extensions import Self


class Sender:
    """A handle that sends through a source, from any thread.

    Handles are cheap and independent: give each thread its own `clone`. `gzmqsource.Source.sender`
    makes the first. Messages of one thread keep their order. Used as a context manager, a handle is
    closed at the end of the block.
    """

    __module__ = "gzmqsource"

    def __init__(self, core: Core) -> None:
        self._core = core
        self._closed = False

    def send(self, message: AnyMessage, block: bool = True, timeout: float | None = None) -> None:
        """Queue one message for sending.

        A native thread releases the GIL while it waits, and a greenlet lets its hub run. If this
        raises, the message is not sent, now or later; that includes a kill or a `gevent.Timeout`
        while the greenlet waits for room. One case differs: when a signal handler raises in a main
        thread without a hub, the message may have been queued.

        Parameters
        ----------
        message
            As for `gzmqsource.Source.send`.
        block : bool
            Whether to wait for room under ``overflow="block"``.
        timeout : float or None
            The most seconds to wait; None waits forever.

        Raises
        ------
        gevent.queue.Full
            There was no room, or none within *timeout*; the message is not queued.
        SendError
            libzmq refuses this message, which is known at once only in the source's own hub.
        TypeError, ValueError
            *message* is not a message, or *timeout* is negative.
        SourceClosed
            This handle or the source is closed.
        """
        timeout = check_block(block, timeout)
        if self._closed:
            raise SourceClosed(f"{self!r} is closed: clone a handle that is open")
        core = self._core
        if core.closed:
            raise core.closed_error()
        if get_hub_if_exists() is core.hub:
            core.send(message, block, timeout)
        elif core.hub.loop is None:
            raise SourceClosed(f"{core!r}: its hub was destroyed: make a new source")
        else:
            checked = core.outbox.checked(message)
            try:
                core.outbox.post(checked, block, timeout, self._notify)
            except SourceClosed:
                raise core.closed_error() from core.cause
            except Full as full:
                full.args = (no_room(core, timeout if block else None),)
                raise

    def send_nowait(self, message: AnyMessage) -> None:
        """Queue one message without waiting for room.

        Parameters
        ----------
        message
            As for `send`, which also lists the errors.
        """
        self.send(message, block=False)

    def clone(self) -> Self:
        """Return another handle on the same source.

        Raises
        ------
        SourceClosed
            This handle is closed.
        """
        if self._closed:
            raise SourceClosed(f"{self!r} is closed: clone a handle that is open")
        return type(self)(self._core)

    def close(self) -> None:
        """Close this handle; other handles stay open, and queued messages are still sent."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} of {self._core!r} {state}>"

    def _notify(self) -> None:
        call_in_hub(self._core.hub, self._core.accept)

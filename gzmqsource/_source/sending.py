"""Sending with a source, from the greenlets of its hub."""

from __future__ import annotations

from gzmqsource._base.deadline import check_timeout
from gzmqsource._source.base import BaseSource
from gzmqsource._source.refusals import check_block
from gzmqsource._source.sender import Sender
from gzmqsource.transfer.message import AnyMessage, FrameT, as_message


def _never() -> bool:
    """Do not yield; the rest of the socket's part is taken nevertheless."""
    return False


class SendingSource(BaseSource[FrameT]):
    """The sending half of a `gzmqsource.Source`, which adds receiving."""

    def send(self, message: AnyMessage, block: bool = True, timeout: float | None = None) -> None:
        """Send one message.

        If nothing is queued and libzmq takes the message, it goes out at once, without a switch.
        Otherwise it is queued, and goes out when libzmq can take it. An exception means that it is
        not sent, now or later; also a kill or a `gevent.Timeout` while the greenlet waits for room.

        A greenlet that sends all the time yields to other I/O after `max_messages`.

        Parameters
        ----------
        message
            A bytes-like object or a `zmq.Frame` for one frame, or an iterable of them. All frames
            go out, or none. On a ROUTER the first is the peer's routing id.
        block : bool
            Whether to wait for room under ``overflow="block"``.
        timeout : float or None
            Seconds to wait at most; None waits forever.

        Raises
        ------
        gevent.queue.Full
            There was no room, or none within *timeout*; the message is not queued.
        SendError
            libzmq refuses this message; the source still works.
        TypeError, ValueError
            *message* is not a message, or *timeout* is negative.
        InvalidThreadUseError, SourceClosed
            As for `socket`.
        """
        if timeout is None and (self._shortcut_send if block else self._shortcut_send_now)(message):
            return
        timeout = check_block(block, timeout)
        self._core.enter()
        self._core.spend(None if block else _never)
        self._core.send(message, block, timeout)

    def send_nowait(self, message: AnyMessage) -> None:
        """Send one message without waiting for room.

        Parameters
        ----------
        message
            As for `send`.

        Raises
        ------
        gevent.queue.Full, SendError, TypeError, ValueError, InvalidThreadUseError, SourceClosed
            As for `send`.
        """
        self.send(message, block=False)

    def withdraw(self, message: AnyMessage) -> bool:
        """Take back a message that is still queued.

        Parameters
        ----------
        message
            The message, or one that is equal to it.

        Returns
        -------
        bool
            False if it is not queued: libzmq has taken it, or it was dropped. Also False if another
            thread has sent it and this hub has yet to take it over, and in a signal handler that
            has interrupted another `withdraw`, or a move within the queue.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `socket`.
        """
        self._core.enter()
        return self._core.outbox.withdraw(as_message(message))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until libzmq has taken every queued message.

        If the greenlet is killed, nothing changes.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None waits forever.

        Returns
        -------
        bool
            False if *timeout* ran out.

        Raises
        ------
        SourceClosed
            The source is closed, or was closed while messages were queued.
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            The source belongs to the hub of another thread.
        """
        timeout = check_timeout(timeout)
        self._core.enter()
        flushed = self._core.wait_until_flushed(timeout)
        if self._core.closed:
            raise self._core.closed_error()
        return flushed

    def sender(self) -> Sender:
        """Return a handle that sends from any greenlet, any hub, and any native thread.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `socket`.
        """
        self._core.enter()
        return Sender(self._core)

"""`Relay`: the events of a green socket, forwarded to the PAIR that its user reads."""

from __future__ import annotations

import contextlib
from typing import Any

import zmq
from gevent._hub_local import get_hub_if_exists
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.oneshot import OneShot
from gzmqsource._socket.reports import Report
from gzmqsource.transfer import transfer_for


class Relay(Report):
    """A report to the PAIR that connects to an address, like libzmq's own.

    libzmq would wait for a PAIR that is closed, slow or not yet there, and hold up all sockets of
    the context. This holds the events, and drops the oldest.

    Parameters
    ----------
    socket : zmq.Socket
        The socket to watch.
    address : str or bytes
        The address where its events are read.
    events : int
        The events to report, as bits of ``zmq.Event``.
    """

    #: The most events that are held, beside those in the PAIR.
    most = 10_000

    def __init__(self, socket: zmq.Socket[Any], address: str | bytes, events: int) -> None:
        self._endpoint: Any = address
        #: Set when it is over, but for events that its reader has yet to take.
        self.settled = OneShot()
        self._has_reader = False  # whether there was one
        self._out = PlainSocket(socket.context, zmq.PAIR)
        try:
            self._out.linger = 0
            self._out.bind(address)  # type: ignore[arg-type]
            self._sending = transfer_for(self._out)
            super().__init__(get_hub_if_exists(), socket, events, self.most, [self._out.fileno()])
        except BaseException:
            self._out.close()
            raise

    def read(self) -> tuple[bool, bool]:
        """Forward events, in the thread; return whether there are more, and whether it is over."""
        more, has_ended = (False, True) if self.ended else super().read()
        try:
            if self._sending.events() & zmq.POLLOUT:
                self._has_reader = True
            while self.queue and self._sending.send_one(self.queue[0]):
                self.queue.popleft()
            if not has_ended:
                return more, False
            # Events that do not fit are kept until the reader has taken some, or is gone.
            self.lingers = bool(self.queue) and self._has_reader and not self._is_free()
            if self.lingers:
                self.settled.set(True)
        except zmq.ZMQError:  # the context has ended
            return False, True
        return False, not self.lingers

    def end_before(self, address: str | bytes) -> None:
        """Block a moment until an address can be bound by the next one; the monitor has ended."""
        is_same = _as_bytes(address) == _as_bytes(self._endpoint)
        (self.released if is_same else self.settled).block(1.0)

    def _is_free(self) -> bool:
        """Return whether no PAIR is connected any more, so that another one is accepted.

        A pipe that is full looks the same as none.
        """
        with PlainSocket(self._out.context, zmq.PAIR) as other:
            other.linger = 0
            other.connect(self._endpoint)
            self._sending.events()  # refuses it, or accepts it
            is_free = bool(transfer_for(other).events() & zmq.POLLOUT)
            self._sending.events()  # the end of the refusal must not wake the thread later
        return is_free

    def release(self) -> None:
        """Close the sockets, in the thread; the address can be bound again."""
        with contextlib.suppress(zmq.ZMQError):
            self._out.unbind(self._endpoint)
        self._out.close()
        super().release()
        self.settled.set(True)

    def abandon(self) -> None:
        """Leave the sockets to the parent process, in a forked child."""
        super().abandon()
        self._out._closed = True

    def _notify(self) -> None:
        if self.has_news:
            super()._notify()


def _as_bytes(address: str | bytes) -> bytes:
    return address.encode() if isinstance(address, str) else address

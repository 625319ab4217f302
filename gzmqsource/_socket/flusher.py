"""`Flusher`: the one greenlet that sends what waits for a socket."""

from __future__ import annotations

import gevent
import zmq

from gzmqsource._socket.hub_socket import HubSocket


class Flusher(gevent.Greenlet):  # type: ignore[type-arg]
    """Sends what waits for a socket, and ends when nothing does; see `HubSocket.flush_with`.

    A subclass knows what waits, and sends it.

    Parameters
    ----------
    socket : HubSocket
        The socket that sends.
    """

    #: Seconds before the next attempt after one that found no memory.
    pause = 0.1

    def __init__(self, socket: HubSocket) -> None:
        super().__init__()
        self.socket = socket

    @property
    def has_more(self) -> bool:
        """Whether something waits to be sent."""
        raise NotImplementedError

    def attempt(self) -> bool:
        """Send without waiting, and spend the budget for it.

        Returns
        -------
        bool
            Whether something was sent, or nothing waits.
        """
        raise NotImplementedError

    def finish(self, error: zmq.ZMQError | None) -> None:
        """Finish: nothing waits, or the socket was closed, or is gone because of *error*."""

    def report(self, error: MemoryError) -> None:
        """Report that an attempt found no memory; another one follows."""
        self.socket.hub.handle_error(self, type(error), error, error.__traceback__)

    def _run(self) -> None:
        socket = self.socket
        gone: zmq.ZMQError | None = None
        try:
            while self.has_more and not socket.readiness.closed:
                try:
                    socket.readiness.write(self.attempt)
                except MemoryError as error:
                    self.report(error)
                    gevent.sleep(self.pause)
                if self.has_more and socket.budget.left <= 0 and socket.budget.exhausted():
                    socket.yield_to_io()
        except zmq.ZMQError as error:
            gone = error
        finally:
            socket.flusher = None
        self.finish(gone)

"""libzmq's own loops, which pass messages between sockets on a native thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import zmq
from zmq.sugar.socket import Socket as PlainSocket


def run_loop(
    loop: Callable[[], Any], sockets: Iterable[Any], begun: Callable[[], None] = lambda: None
) -> Any:
    """Run a loop of libzmq between sockets to its end, on this thread.

    When a peer was authenticated, libzmq puts its name into the pipe before its first message. If
    that message is not complete yet, ``POLLIN`` stands for the name alone, the receive fails, and
    libzmq 4.3.5 ends the loop with ``EAGAIN``. Nothing is lost by that, so *begun* is called and
    the loop is run again. A send that gives up after ``SNDTIMEO`` ends it the same way, and for
    good.
    """
    while True:
        try:
            return loop()
        except zmq.Again:
            if any(int(PlainSocket.get(each, zmq.SNDTIMEO)) >= 0 for each in sockets):
                raise
            begun()

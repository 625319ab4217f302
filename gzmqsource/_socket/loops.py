"""libzmq's own loops, which pass messages between sockets on a native thread."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import zmq
from zmq.backend import proxy_steerable
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.oneshot import OneShot
from gzmqsource._base.threads import NativeThread, start_thread
from gzmqsource._socket.endpoints import kind_of
from gzmqsource._socket.linger import RECEIVES_NOTHING, SENDS_NOTHING
from gzmqsource._socket.view import check_is_free

_ONLY_SEND = frozenset(kind.name for kind in RECEIVES_NOTHING)
_ONLY_RECEIVE = frozenset(kind.name for kind in SENDS_NOTHING)


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


def check_proxied(sockets: Sequence[zmq.Socket[Any]]) -> None:
    """Check the front, the back and the capture, if there is one, of a proxy.

    Raises
    ------
    TypeError, ValueError, zmq.ZMQError
        One cannot be taken over, or no message can pass.
    """
    for socket in sockets:
        check_is_free(socket, "a proxy passes messages between zmq sockets")
    kinds = [kind_of(socket) for socket in sockets]
    for kind in kinds:
        if kind in ("REQ", "REP"):
            raise ValueError(f"a {kind} takes turns with its peer: give a proxy ROUTER and DEALER")
    front, back, *capture = kinds
    if not (_passes(front, back) or _passes(back, front)):
        raise ValueError(
            f"no message passes between a {front} and a {back}: give a proxy PULL and PUSH, "
            "ROUTER and DEALER, or XSUB and XPUB"
        )
    for kind in capture:
        if kind in _ONLY_RECEIVE:
            raise ValueError(f"a {kind} as capture sends nothing: use a PUB, PUSH or DEALER")


@functools.cache
def pause_command() -> bytes:
    """Return the command that pauses a proxy; finding that out takes some 100 us.

    zmq_proxy_steerable(3) says ``PAUSE``, but libzmq 4.3.5 mistakes that for ``RESUME``, and vice
    versa.
    """
    # On a thread, and without a switch: a greenlet that is killed or interrupted meanwhile would
    # wait for sockets that the proxy still uses.
    finding, has_ended = NativeThread(_find_pause_command), OneShot()

    def find() -> None:
        finding.run()
        has_ended.set(None)

    start_thread(find, ())
    has_ended.block()
    if finding.error is not None:
        raise finding.error
    command: bytes = finding.value
    return command


def _find_pause_command() -> bytes:
    with PlainContext() as context:
        sockets = [PlainSocket(context, kind) for kind in (zmq.PULL, zmq.PUB, zmq.PAIR)]
        control, feeder = (PlainSocket(context, kind) for kind in (zmq.PAIR, zmq.PUSH))
        sockets[0].bind("inproc://front")
        sockets[2].bind("inproc://control")
        feeder.connect("inproc://front")
        control.connect("inproc://control")
        thread = NativeThread(lambda: proxy_steerable(sockets[0], sockets[1], None, sockets[2]))
        thread.start()
        control.send(b"PAUSE")
        feeder.send(b"x")
        # A message that is there when one command comes has passed before the next.
        for command in (b"STATISTICS", b"STATISTICS", b"TERMINATE"):
            control.send(command)
        thread.join()
        replies = []
        while control.poll(0):
            replies.append(control.recv_multipart())
        _, report = (reply for reply in replies if len(reply) > 1)
        for socket in (*sockets, control, feeder):
            socket.close(0)
    return b"RESUME" if any(report[0]) else b"PAUSE"


def _passes(begin: str, end: str) -> bool:
    return begin not in _ONLY_SEND and end not in _ONLY_RECEIVE

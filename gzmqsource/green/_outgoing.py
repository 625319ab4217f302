"""Messages of the drop-in on their way into libzmq, whole and in order."""

from __future__ import annotations

import functools
from typing import Any

import gevent
import zmq

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.repairs import Repairs
from gzmqsource._base.waiters import Waiters
from gzmqsource._socket import HubSocket
from gzmqsource._socket.linger import SENDS_NOTHING
from gzmqsource.transfer.interface import Transfer
from gzmqsource.transfer.message import PER_PEER

#: One frame that can be sent: bytes, a `zmq.Frame`, or a contiguous buffer that may be lent.
Part = Any

_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)

#: The types on which no ``POLLOUT`` does not mean that a later send can succeed: calls are refused.
_REFUSING = frozenset({zmq.REQ, zmq.REP}) | SENDS_NOTHING


class Outgoing:
    """The frames of messages that are not complete, and the greenlets that wait to send.

    libzmq cannot take back a message that was begun: the next sender's frames would be added to it.
    So the frames of a message are held for the greenlet that sends them, and go into libzmq
    together. A message that is abandoned is never begun there.

    Greenlets wait in FIFO order for each destination. The first of them, the head, is woken when
    libzmq may take its message, and sends it itself. When it leaves, for any reason, the next one
    becomes the head.

    It is the `gzmqsource.transfer.interface.Backlog` of the shortcuts, which do not queue.

    The socket is passed to each call and not stored, because it refers to this object.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of the socket.
    transfer : Transfer
        The socket's transfer.
    partial : dict
        The frames that are held, by greenlet.
    """

    lane = None
    arrivals: tuple[()] = ()
    least_frames = 1

    def __init__(self, hub: Any, transfer: Transfer, partial: dict[Any, Any]) -> None:
        #: The greenlets that wait behind a head, by routing id where each peer has its own pipe.
        self.lanes: dict[bytes | None, Waiters] = {}
        #: The heads of these lanes.
        self._heads: dict[bytes | None, Any] = {}
        self._hub = hub
        Repairs.of(hub).add(self)
        self.partial = partial
        kind = transfer.option(zmq.TYPE)
        self._per_peer = kind in PER_PEER
        #: Whether there is no type or state of the socket in which a call is refused.
        self.refuses_nothing = kind not in _REFUSING
        self._most_partial = 16

    def send(self, socket: HubSocket, parts: list[Part], flags: int) -> None:
        """Send a message, or its last frames with those held before; hold frames, with SNDMORE.

        If it raises, nothing of the message was sent. If frames were held for the message, the
        same call again tries the whole message again, and any other begins a new one.
        """
        greenlet = gevent.getcurrent()
        begun = self._before(greenlet, parts, flags)
        if begun is None:
            self.partial.pop(greenlet, None)
        else:
            self.partial[greenlet] = begun
        if flags & _SNDMORE:
            if begun is None:
                begun = self._begin(socket, greenlet, flags)
            begun += parts
            return
        # A greenlet keeps the traceback of its kill, which is not to lead back to it.
        del greenlet
        try:
            if not self._send(socket, parts if begun is None else begun + parts, flags):
                raise zmq.Again
        except BaseException as error:
            if begun is not None and _may_try_again(error):
                self.partial[gevent.getcurrent()] = _Refused(begun, parts)
            else:
                self.partial.pop(gevent.getcurrent(), None)
            raise
        self.partial.pop(gevent.getcurrent(), None)

    def held(self, parts: list[Part], flags: int) -> int:
        """Return how many frames precede *parts*, which the current greenlet is about to send."""
        return len(self._before(gevent.getcurrent(), parts, flags) or ())

    def forget(self, kept: int) -> None:
        """Forget the current greenlet's frames beyond the first *kept*."""
        greenlet = gevent.getcurrent()
        begun = self.partial.pop(greenlet, [])
        if not kept:
            return
        if isinstance(begun, _Refused):
            added = begun.first[kept:] + begun.last
            self.partial[greenlet] = _Refused(begun.first[:kept], added[:1], len(added) > 1)
        else:
            self.partial[greenlet] = begun[:kept]

    def _before(self, greenlet: Any, parts: list[Part], flags: int) -> list[Part] | None:
        """Return the frames that precede *parts*; None if *parts* begin a message."""
        begun: list[Part] | _Refused | None = self.partial.get(greenlet)
        if isinstance(begun, _Refused):
            return begun.first if begun.is_repeated_by(parts, flags) else None
        return begun

    def _begin(self, socket: HubSocket, greenlet: Any, flags: int) -> list[Part]:
        """Begin a message; raise `zmq.Again` if libzmq would not take its first frame now."""
        says_when = socket.readiness.pollout_is_exact and self.refuses_nothing
        if flags & _NOBLOCK and says_when and not socket.is_writable():
            raise zmq.Again
        if len(self.partial) >= self._most_partial:
            for other in [other for other in self.partial if other.dead]:
                del self.partial[other]
            # The next search is after as many messages as this one looked at.
            self._most_partial = max(16, 2 * len(self.partial))
        begun: list[Part] = []
        self.partial[greenlet] = begun
        return begun

    def _send(self, socket: HubSocket, message: list[Part], flags: int) -> bool:
        """Send a whole message; return False if libzmq has not taken it in time."""
        if flags & _NOBLOCK:
            return socket.send(message)
        # The time in the queue of busy sockets counts, too.
        deadline = socket.deadline(zmq.SNDTIMEO) if socket.budget.left <= 0 else None
        socket.budget.take()
        lane = self._lane_of(message)
        if lane not in self.lanes and socket.send(message):
            return True
        return self._send_in_order(socket, lane, message, deadline or socket.deadline(zmq.SNDTIMEO))

    def _send_in_order(
        self, socket: HubSocket, lane: bytes | None, message: list[Part], deadline: Deadline
    ) -> bool:
        """Send behind the greenlets that wait for the same peer; return False at the deadline."""
        readiness, waiting, was_woken = socket.readiness, self.lanes.get(lane), False
        try:
            if waiting is None:
                waiting = self.lanes[lane] = Waiters()
            else:
                look = functools.partial(_look, socket)
                while not was_woken or lane in self._heads:
                    if not waiting.wait(socket.hub, deadline.left(), look=look, first=was_woken):
                        return False
                    was_woken = True
            self._heads[lane] = gevent.getcurrent()
            return readiness.write(lambda: socket.transfer.send_one(message), deadline.left(), lane)
        finally:
            if self._heads.get(lane) is gevent.getcurrent():
                del self._heads[lane]
            if lane not in self._heads:
                if waiting and socket.hub.loop is not None:
                    socket.hub.loop.run_callback(self._pass_on, lane)
                else:
                    self.lanes.pop(lane, None)
            socket.budget.restart()

    def repair(self) -> None:
        """Have each lane that has no head get one, soon."""
        for lane in tuple(self.lanes):
            self._hub.loop.run_callback(self._pass_on, lane)

    def _pass_on(self, lane: bytes | None) -> None:
        """Wake the greenlet that waits longest, to be the head of its lane, if there is none."""
        waiting = self.lanes.get(lane)
        if lane in self._heads:
            return
        if waiting:
            waiting.wake(1)
        else:
            self.lanes.pop(lane, None)

    def _lane_of(self, message: list[Part]) -> bytes | None:
        if not self._per_peer:
            return None
        return bytes(_content(message[0]))


def _look(socket: HubSocket) -> int:
    """Look at the socket for those in front; return a value that changes while they send."""
    socket.readiness.recheck()
    return socket.transfer.sent


def _may_try_again(error: BaseException) -> bool:
    """Return whether a program may send the last frame again, instead of the whole message.

    pyzmq would have raised libzmq's other errors at the first frame.
    """
    return isinstance(error, zmq.Again) or not isinstance(error, zmq.ZMQError)


class _Refused:
    """A message that was sent in several calls, one of which was refused.

    Parameters
    ----------
    first : list
        The frames before that call.
    last : list
        Those of the call.
    more : bool
        Whether it had ``SNDMORE``.
    """

    def __init__(self, first: list[Part], last: list[Part], more: bool = False) -> None:
        self.first = first
        self.last = last
        self.more = more

    def is_repeated_by(self, parts: list[Part], flags: int) -> bool:
        """Return whether the refused call is made again."""
        is_same = list(map(_content, parts)) == list(map(_content, self.last))
        return is_same and bool(flags & _SNDMORE) == self.more


def _content(part: Part) -> Any:
    """Return a value that can be compared: a frame is equal only to itself."""
    return part.bytes if isinstance(part, zmq.Frame) else part

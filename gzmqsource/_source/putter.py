"""Senders that wait for room in a lane: greenlets of its hub, of other hubs, and native threads.

A message whose ``send`` raised must not be sent. But a notice ("it was queued for you") reaches a
greenlet later than it is given, and a `gevent.Timeout` or a kill may come in between. So a
greenlet queues its message itself when it is switched into: a `Putter` in the lane, a
`ForeignPutter` of another hub by accepting an invitation. For a native thread only its own timeout
can come in between, and the lock of a `OneShot` decides between that and the hub.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter
from gevent.queue import Full

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.hubs import can_run
from gzmqsource._base.oneshot import OneShot
from gzmqsource._base.waiters import Waiters
from gzmqsource.errors import SourceClosed
from gzmqsource.transfer import weight_of
from gzmqsource.transfer.message import Message

_INVITED, _ACCEPTED, _TAKEN = "invited", "accepted", "taken"
_WITHDRAWN, _REFUSED = "withdrawn", "refused"


class Putter:
    """A greenlet of the lane's hub, which queues its message in the step in which it is woken.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of the lane.
    size : int
        The bytes that its message counts.
    queue : Waiters
        The greenlets that wait for room in the same lane.
    """

    __slots__ = ("_hub", "_queue", "_refused", "_waiter", "size", "withdrawn")

    def __init__(self, hub: Any, size: int, queue: Waiters) -> None:
        self.size = size
        #: Whether its ``send`` has raised; it leaves the lane soon.
        self.withdrawn = False
        self._hub = hub
        self._queue = queue
        self._waiter: Waiter[object] = Waiter(hub)
        self._refused = False

    def wait(self, timeout: float | None, look: Callable[[], object]) -> None:
        """Wait for room, behind the putters that came before.

        Raises
        ------
        gevent.queue.Full
            *timeout*, in seconds, ran out, and *look* has made no room; see `Waiters.wait`.
        SourceClosed
            The outbox was closed first.
        """
        has_room = self._queue.wait(self._hub, timeout, look=look, waiter=self._waiter)
        if self._refused:
            raise _closed()
        if not has_room:
            raise Full

    def wake(self) -> None:
        """Switch into the greenlet, which queues its message; call this in the hub."""
        self._queue.wake_this(self._waiter)

    def refuse(self) -> None:
        """Have the greenlet raise, because the outbox closes."""
        self._refused = True
        if self._hub.loop is not None:
            self._hub.loop.run_callback(self.wake)


class ForeignPutter(OneShot):
    """A message of another thread, and the sender that waits with it.

    The message of a native thread is *taken* by the owner's hub. A greenlet is *invited*, and has
    *accepted* when its own hub has switched into it.

    Parameters
    ----------
    message
        The message, checked.
    """

    __slots__ = ("_hub", "message", "size", "timer")

    def __init__(self, message: Message) -> None:
        super().__init__()
        self.message = message
        self.size = weight_of(message)
        #: Limits the wait for a greenlet that does not answer.
        self.timer: Any = None
        self._hub: Any = get_hub_if_exists()

    def wait_until_taken(self, timeout: float | None) -> None:
        """Wait until the message is taken or accepted; call this in the sender's thread.

        Raises
        ------
        gevent.queue.Full
            *timeout*, in seconds, ran out; the message is withdrawn.
        SourceClosed
            The outbox was closed first.
        """
        deadline = Deadline(timeout)
        try:
            while True:
                self.wait(deadline.left())
                if self.replace(_INVITED, _ACCEPTED) or self.value == _TAKEN:
                    return
                if self.value == _REFUSED:
                    raise _closed()
                if deadline.left() == 0 and self.set(_WITHDRAWN):
                    raise Full
        except BaseException:
            self._end(_WITHDRAWN)
            raise

    def take(self) -> bool:
        """Take the message if no greenlet has to accept first; return whether it is taken."""
        if self._hub is None:
            # It is taken before, if an exception came before its message was queued.
            return self.set(_TAKEN) or self.value == _TAKEN
        return bool(self.value == _ACCEPTED)

    def invite(self) -> None:
        """Have the greenlet of another hub accept, soon; a native thread is not invited."""
        if self._hub is not None:
            self.replace(None, _INVITED)

    def uninvite(self) -> bool:
        """Take the invitation back, for good if its hub has ended; return False if too late."""
        return self.replace(_INVITED, None if can_run(self._hub) else _WITHDRAWN)

    def refuse(self) -> bool:
        """Refuse the message because the outbox closes; return whether its sender raises."""
        self.stop_timer()
        self._end(_REFUSED)
        return self.value in (_WITHDRAWN, _REFUSED)

    def stop_timer(self) -> None:
        """Stop the timer, if it runs."""
        if self.timer is not None:
            self.timer.close()
            self.timer = None

    @property
    def is_new(self) -> bool:
        """Whether it was not invited, taken or withdrawn yet."""
        return self.value is None

    @property
    def withdrawn(self) -> bool:
        """Whether the sender has given up."""
        return bool(self.value == _WITHDRAWN)

    @property
    def is_answered(self) -> bool:
        """Whether the sender has accepted, or given up."""
        return self.value in (_ACCEPTED, _WITHDRAWN)

    def _end(self, value: str) -> None:
        if not self.set(value):
            self.replace(_INVITED, value)


def _closed() -> SourceClosed:
    return SourceClosed("the source was closed while this message waited for room")

"""`MessageTracker`: waits in the hub until libzmq is done with a zero-copy message."""

from __future__ import annotations

from typing import Any, TypeVar

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from zmq.sugar.tracker import MessageTracker as PlainTracker

from gzmqsource._base.deadline import Deadline

_TrackerT = TypeVar("_TrackerT", bound="PlainTracker | None")


class MessageTracker(PlainTracker):
    """A `zmq.MessageTracker` whose `wait` lets other greenlets run."""

    __module__ = "gzmqsource.green"

    #: Seconds between two looks at it. libzmq reports to a native thread of pyzmq's, which cannot
    #: wake a greenlet.
    interval = 0.001

    #: Seconds between any two looks, of all greenlets that wait: 1,000 of them take 7 % of the CPU,
    #: and 99 % if each looks every millisecond.
    shared_interval = 0.0001

    def wait(self, timeout: float | None = -1) -> Any:
        """Wait until libzmq is done with the message; see `zmq.MessageTracker.wait`.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None or a negative number waits forever.

        Raises
        ------
        zmq.NotDone
            *timeout* ran out.
        """
        forever = timeout is None or timeout is False or timeout < 0
        if get_hub_if_exists() in (None, gevent.getcurrent()):
            return super().wait(-1 if timeout is None else timeout)
        deadline = Deadline(None if forever else timeout)
        _waiting.add(deadline)
        try:
            while not self.done:
                left = deadline.left()
                if left == 0:
                    raise zmq.NotDone
                pause = max(self.interval, self.shared_interval * len(_waiting))
                gevent.sleep(pause if left is None else min(left, pause))
        finally:
            _waiting.remove(deadline)


#: The deadline of each call that waits, in all threads.
_waiting: set[Deadline] = set()


def cooperative(tracker: _TrackerT) -> _TrackerT:
    """Give one of pyzmq's trackers the cooperative `MessageTracker.wait`, and return it.

    It stays the same object, because a `zmq.Frame` has one tracker for all its sends. A subclass
    keeps its own ``wait``, and one that is done for good needs none.
    """
    if type(tracker) is PlainTracker and tracker is not zmq._FINISHED_TRACKER:
        tracker.__class__ = MessageTracker
    return tracker

"""`MessageTracker`: waits in the hub until libzmq is done with a zero-copy message."""

from __future__ import annotations

from typing import Any

import gevent
import zmq
from zmq.sugar.tracker import MessageTracker as PlainTracker

from gzmqsource._base.deadline import Deadline


class MessageTracker(PlainTracker):
    """A `zmq.MessageTracker` whose `wait` lets other greenlets run."""

    __module__ = "gzmqsource.green"

    #: Seconds between two looks: libzmq reports to a native thread of pyzmq's, which cannot wake a
    #: greenlet.
    interval = 0.001

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
        deadline = Deadline(None if timeout is None or timeout < 0 else timeout)
        while not self.done:
            left = deadline.left()
            if left == 0:
                raise zmq.NotDone
            gevent.sleep(self.interval if left is None else min(left, self.interval))

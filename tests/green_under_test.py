"""Which drop-in the suite in green/ is run over, and what its tests of faults have in common."""

import contextlib
import os
import warnings

import gevent
import pytest
import zmq

NAME = os.environ.get("GZMQSOURCE_TEST_GREEN", "gzmqsource.green")

#: Seconds after which something did not happen. A lost wake-up is found by zmq.green's timer, too,
#: after 1.33 s.
LONG = 1 if NAME == "zmq.green" else 20

fault = pytest.mark.fault


def soon(greenlet):
    """The value of a greenlet that has to end now; what waits for ever is ended."""
    try:
        with gevent.Timeout(LONG):
            return greenlet.get()
    finally:
        greenlet.kill(block=False)


def fill(sender):
    """Send until there is no room, and return how often that was."""
    count = 0
    while sender.get(zmq.EVENTS) & zmq.POLLOUT:
        sender.send(b"ballast", zmq.NOBLOCK)
        count += 1
    return count


@contextlib.contextmanager
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield

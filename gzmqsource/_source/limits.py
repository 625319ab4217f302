"""The tunables of a source."""

from __future__ import annotations

from gzmqsource._base.deadline import check_timeout, checked_number

_COUNTED = ("max_messages", "max_batch", "max_bytes")
_TIMED = ("max_seconds", "min_delay", "max_delay", "quiet")


class Limits:
    """Class attributes of `gzmqsource.Source` that a subclass may set."""

    #: The most messages that are dispatched, pulled, or sent before other I/O has its turn. A
    #: turn of I/O costs about 30 us, which would be noticeable with fewer than 1000 messages.
    max_messages = 5000

    #: Seconds after which the budget is exhausted, if that comes first, for a source that has the
    #: whole slice of its hub to itself. More than the slice's 1 ms would delay other I/O.
    max_seconds = 0.001

    #: The most messages that are prefetched for the handler. The batch begins with one message,
    #: doubles while the handler keeps up, and shrinks when the budget is exhausted.
    max_batch = 128

    #: The most bytes read in one call, so that a batch of large messages stays small in memory.
    max_bytes = 1 << 17

    #: The most bytes queued for all peers of a ROUTER or STREAM together, in addition to one
    #: message for each. A peer may use as many as are still free, so peers that do not read leave
    #: room for others.
    max_outbox_bytes = 1 << 26

    #: The most frames of a received message; one with more is discarded. 4 million empty frames
    #: take 8 MB on the wire, pass ``maxmsgsize``, and would take 32 MB in Python.
    max_frames = 1 << 16

    #: The most bytes of a received message, all frames together; None for no bound. libzmq's
    #: ``maxmsgsize`` bounds each frame.
    max_message_bytes: int | None = None

    #: Seconds to pause after the second error in a row of receiving, or of a spawn function; each
    #: further error doubles the pause. Errors of the handler cause no pause.
    min_delay = 0.01

    #: The longest such pause, in seconds.
    max_delay = 1.0

    #: The most seconds that `stop` takes if no timeout is passed, as in gevent's servers.
    stop_timeout: float | None = 1.0

    #: Seconds without a message after which a stop assumes that no more are in transit. Within a
    #: stream, gaps of 39 ms were seen over tcp, and of 148 ms over ipc.
    quiet = 0.25


def check_limits(limits: Limits) -> None:
    """Check those with which a source would wait forever, or fail later.

    The objects that have the other ones check them.

    Raises
    ------
    TypeError, ValueError
        One of them is not a number, or out of range.
    """
    for name in _COUNTED:
        value = getattr(limits, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}: the bound is an int of at least 1")
    for name in _TIMED:
        value = getattr(limits, name)
        rule = "seconds, from 0 up"
        if not checked_number(name, value, rule) >= 0:
            raise ValueError(f"{name}={value!r}: {rule}")
    check_timeout(limits.stop_timeout, "stop_timeout")

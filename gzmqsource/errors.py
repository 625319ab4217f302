"""The errors of a source, and the three classes of what libzmq reports.

*Retry*: the call would block or was interrupted; it is made again after the next edge.
*Message*: libzmq refuses this one message; it is reported with the message, the next one goes on.
*Fatal*: the socket or its context is gone; the source closes and everybody who waits is told.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Sequence

import zmq
from gevent.exceptions import InvalidThreadUseError

__all__ = [
    "InvalidThreadUseError",
    "PeerLost",
    "RemoteError",
    "RequestTimeout",
    "SendError",
    "Severity",
    "SourceBroken",
    "SourceClosed",
    "SourceForked",
    "severity",
]


class Severity(enum.Enum):
    """What an error of libzmq means for the source that met it."""

    RETRY = "retry"  #: try again after the next edge
    MESSAGE = "message"  #: this message is refused, the socket goes on
    FATAL = "fatal"  #: the socket can never be used again


_RETRY = frozenset({zmq.EAGAIN, errno.EINTR})
_FATAL = frozenset({zmq.ETERM, zmq.ENOTSOCK})


def severity(error: zmq.ZMQError) -> Severity:
    """Tell which of the three classes an error belongs to.

    Notes
    -----
    zmq_msg_send(3) and zmq_msg_recv(3) list the errno values. One that is not known there counts
    as the message's own, so that a new one never closes a source.
    """
    if error.errno in _RETRY:
        return Severity.RETRY
    if error.errno in _FATAL:
        return Severity.FATAL
    return Severity.MESSAGE


class SourceClosed(Exception):
    """The source was closed, here and on purpose."""


class SourceBroken(SourceClosed):
    """The source closed because libzmq took its socket away; ``__cause__`` is libzmq's error."""


class SourceForked(SourceClosed):
    """The source belongs to the parent process and cannot be used in a forked child."""


class SendError(zmq.ZMQError):
    """libzmq refuses one message; the source goes on.

    Attributes
    ----------
    errno : int
        libzmq's reason, as zmq_msg_send(3) lists them: ``EHOSTUNREACH``, ``EFSM``, ``ENOTSUP``, ...
    message : list of bytes or zmq.Frame
        The frames that were not sent.
    """

    def __init__(self, error: zmq.ZMQError, message: Sequence[bytes | zmq.Frame]) -> None:
        super().__init__(error.errno, error.strerror)
        self.message = list(message)


class RequestTimeout(TimeoutError):
    """No reply came in time, however often the request was sent."""


class PeerLost(ConnectionError):
    """A connection was lost while a request was not answered: it was done, or it was not."""


class RemoteError(Exception):
    """The handler at the other end raised; this is what it told.

    Attributes
    ----------
    name : str
        The name of the exception's class: ``"ValueError"``.
    text : str
        What the exception said.
    traceback : str or None
        Where it was raised, if the other end tells.
    """

    def __init__(self, name: str, text: str, traceback: str | None = None) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text
        self.traceback = traceback

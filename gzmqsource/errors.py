"""The errors of a source, and the three classes of libzmq's errors.

*Retry*: the call would block or was interrupted; it is made again after the next edge.
*Message*: libzmq refuses one message; the error is reported with it, and the next one is sent.
*Fatal*: the socket or its context is gone; the source closes, and every call that waits raises.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Sequence

import zmq
from gevent import GreenletExit
from gevent.exceptions import InvalidThreadUseError

__all__ = [
    "InvalidThreadUseError",
    "PeerLost",
    "RemoteError",
    "RequestCancelled",
    "RequestTimeout",
    "SendError",
    "Severity",
    "SourceBroken",
    "SourceClosed",
    "SourceForked",
    "severity",
]


class Severity(enum.Enum):
    """The effect of a libzmq error on the source."""

    RETRY = "retry"  #: try again after the next edge
    MESSAGE = "message"  #: this message is refused, the socket still works
    FATAL = "fatal"  #: the socket can never be used again


_RETRY = frozenset({zmq.EAGAIN, errno.EINTR})
_FATAL = frozenset({zmq.ETERM, zmq.ENOTSOCK})


def severity(error: zmq.ZMQError) -> Severity:
    """Return the class of an error, of the three that there are.

    Parameters
    ----------
    error : zmq.ZMQError
        The error of a libzmq call.

    Notes
    -----
    zmq_msg_send(3) and zmq_msg_recv(3) list the errno values. An unknown one counts as the
    message's, so that a new errno never closes a source.
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
    """libzmq refused one message; the source still works.

    Attributes
    ----------
    errno : int
        libzmq's reason, as zmq_msg_send(3) lists them: ``EHOSTUNREACH``, ``EFSM``, ``ENOTSUP``, ...
    message : list of bytes or zmq.Frame
        The frames that were not sent.
    """

    def __init__(
        self, error: zmq.ZMQError, message: Sequence[bytes | zmq.Frame], text: object = None
    ) -> None:
        super().__init__(error.errno, error.strerror)
        self.message = list(message)
        self._text = error.strerror if text is None else text

    def __str__(self) -> str:
        return str(self._text)


class RequestTimeout(TimeoutError):
    """No reply came in time, retries included; the text says where the request was then."""


class PeerLost(ConnectionError):
    """A connection was lost before a reply came: the request may or may not have been handled."""


class RequestCancelled(GreenletExit):
    """The caller no longer waits for the reply; raised in the request's handler, where it waits.

    It is a `gevent.GreenletExit`, so that ``except Exception`` does not catch it. It is not counted
    as an error when it leaves the handler.
    """


class RemoteError(Exception):
    """The handler at the other end raised an exception, which this one reports.

    Attributes
    ----------
    name : str
        The name of the exception's class: ``"ValueError"``.
    text : str
        The exception's text.
    traceback : str or None
        Where it was raised, if the other end sends tracebacks.
    peer : str or None
        The endpoint of the server, as the requester has connected to it.
    """

    peer: str | None = None

    def __init__(self, name: str, text: str, traceback: str | None = None) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text
        self.traceback = traceback

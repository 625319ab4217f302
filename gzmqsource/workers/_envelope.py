"""What a request and a reply look like on the wire.

The *envelope* is all frames before the first empty one, the *delimiter*: the correlation frame of a
`gzmqsource.workers.Requester`, and the routing ids that ROUTER sockets on the way prepend. The
*payload* follows the delimiter. In place of a reply's payload there may be an error: the frame
`ERROR`, then the name of the exception's class, its text and, optionally, its traceback, in UTF-8.
"""

from __future__ import annotations

import traceback
from typing import Any

import zmq

from gzmqsource.errors import RemoteError
from gzmqsource.transfer.message import AnyMessage, as_frames, as_message

#: The first frame of a payload that is an error. It begins with NAK.
ERROR = b"\x15gzmqsource.error"

#: The most bytes of an exception's text, and of a traceback, that go over the wire.
MAX_TEXT = 1 << 16


def split(message: list[Any]) -> tuple[list[Any], list[Any]]:
    """Split a request into its envelope, including the delimiter, and its payload.

    Raises
    ------
    ValueError
        It has no delimiter, or nothing after it.
    """
    for end, frame in enumerate(message, 1):
        if not len(frame):
            if end == len(message):
                raise ValueError("no payload after the delimiter")
            return message[:end], message[end:]
    raise ValueError("no empty frame as a delimiter")


def payload_of(message: AnyMessage) -> list[bytes | zmq.Frame]:
    """Check a payload, and return its frames; errors are those of `gzmqsource.Source.send`."""
    return as_frames(as_message(message))


def error_payload(error: BaseException, with_traceback: bool) -> list[bytes]:
    """Return the payload of a reply that reports an exception."""
    parts = [type(error).__name__, str(error)]
    if with_traceback:
        parts.append("".join(traceback.format_exception(error)))
    return [ERROR, *(part.encode(errors="replace")[:MAX_TEXT] for part in parts)]


def reports_error(message: list[Any]) -> bool:
    """Return whether a reply with its envelope reports an exception."""
    try:
        return bool(split(message)[1][0] == ERROR)
    except ValueError:
        return False


def error_in(payload: list[Any]) -> RemoteError | None:
    """Return the exception that a reply reports, or None."""
    if len(payload) < 3 or payload[0] != ERROR:
        return None
    name, text, *rest = (bytes(frame).decode(errors="replace") for frame in payload[1:4])
    return RemoteError(name, text, rest[0] if rest else None)

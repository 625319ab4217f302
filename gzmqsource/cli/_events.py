"""The events of a socket's connections, in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone

import zmq

from gzmqsource.cli._log import time_of
from gzmqsource.cli._text import printable
from gzmqsource.monitor import NAMES, SocketEvent

#: The meaning of the status of a ZAP reply: https://rfc.zeromq.org/spec/27/.
_ZAP = {
    300: "try again later",
    400: "the authenticator does not accept this peer",
    500: "the authenticator failed",
}

#: The columns of an event's name.
_WIDTH = max(map(len, NAMES.values()))


def reason_of(event: SocketEvent) -> str | None:
    """Return why a step has failed, or when the next attempt is; None if it is unknown."""
    if event.protocol_error is not None:
        # The protocol, and its error: zmtp_mechanism_mismatch.
        protocol, _, error = event.protocol_error.partition("_")
        return f"{protocol.upper()} {error.replace('_', ' ')}".strip()
    if event.name == "handshake_failed_auth":
        return f"ZAP status {event.value}: {_ZAP.get(event.value, 'unknown')}"
    if event.errno:
        return str(zmq.strerror(event.errno))
    if event.name == "connect_delayed":
        return str(zmq.strerror(event.value))
    if event.name == "connect_retried":
        return f"next attempt in {event.value} ms"
    return None


def as_line() -> Callable[[SocketEvent], str]:
    """Return a function that makes lines of events, in columns."""
    endpoint_width = 0

    def line(event: SocketEvent) -> str:
        nonlocal endpoint_width
        endpoint = printable(event.endpoint)
        endpoint_width = max(endpoint_width, len(endpoint))
        time = time_of(datetime.now(timezone.utc))
        columns = f"{time}  {event.name:{_WIDTH}}  {endpoint:{endpoint_width}}"
        return f"{columns}  {reason_of(event) or ''}".rstrip()

    return line


def as_json(event: SocketEvent) -> str:
    """Return an object of JSON."""
    fields = {
        "time": time_of(datetime.now(timezone.utc)),
        "event": event.name,
        "endpoint": event.endpoint,
        "value": event.value,
        "reason": reason_of(event),
    }
    return json.dumps(fields)

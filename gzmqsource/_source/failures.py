"""Errors of handlers and messages that no caller can catch: they go to the log or the hub."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import gevent
import zmq
from gevent.hub import Hub

from gzmqsource._base.reports import Reports, peer_of, text_of
from gzmqsource.errors import SendError
from gzmqsource.transfer.message import PER_PEER

_failed = Reports("gzmqsource.source", logging.ERROR)
_refused = Reports("gzmqsource.source")


class Failing(Protocol):
    """A source, as this module uses it."""

    hub: Any
    kind: zmq.SocketType


def report(source: Failing, error: BaseException, message: list[Any] | None) -> None:
    """Log an error, at a bounded rate, or pass it to the hub.

    The hub gets the errors that it treats in its own way, such as `SystemExit`, which it raises in
    the main greenlet. If its ``handle_error`` was replaced, it gets all errors.

    Parameters
    ----------
    source : Failing
        The source that the error concerns.
    error : BaseException
        The error.
    message : list of bytes or zmq.Frame, or None
        The message that the error is about. Only the routing id of its peer is logged.
    """
    hub = source.hub
    is_plain = isinstance(error, (Exception, gevent.Timeout)) and not isinstance(
        error, (*hub.NOT_ERROR, *hub.SYSTEM_ERROR)
    )
    if not is_plain or getattr(hub.handle_error, "__func__", None) is not Hub.handle_error:
        hub.handle_error(source, type(error), error, error.__traceback__)
        return

    def describe() -> str:
        peer = f", peer {peer_of(message[0])}" if message and source.kind in PER_PEER else ""
        text, name = text_of(error), repr(source)
        return f"{text}{peer}" if name in text else f"{name}: {text}{peer}"

    (_refused if isinstance(error, SendError) else _failed)(describe, error)

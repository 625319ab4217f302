"""Errors of handlers and messages that no caller can catch: they go to the log or the hub."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import zmq
from gevent import GreenletExit
from gevent.hub import Hub

from gzmqsource._base.reports import Reports, peer_of, text_of
from gzmqsource.errors import SendError
from gzmqsource.transfer.message import PER_PEER

#: The exceptions of a handler that are not its error: they end its greenlet, or the process.
ENDING = (GreenletExit, SystemExit, KeyboardInterrupt)

_failed = Reports("gzmqsource.source", logging.ERROR)
_refused = Reports("gzmqsource.source")


class Failing(Protocol):
    """A source, as this module uses it."""

    hub: Any
    kind: zmq.SocketType


def is_for_hub(source: Failing, error: BaseException) -> bool:
    """Return whether the hub gets an error even if there is an ``on_error``."""
    return isinstance(error, (GreenletExit, *source.hub.SYSTEM_ERROR))


def report(source: Failing, error: BaseException, message: list[Any] | None) -> None:
    """Log an error, at a bounded rate, or pass it to the hub.

    The hub gets the errors that it treats in its own way, such as `SystemExit`, which it raises in
    the main greenlet. If its ``handle_error`` was replaced, it gets all errors that come here.

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
    is_special = isinstance(error, (*hub.NOT_ERROR, *hub.SYSTEM_ERROR))
    if is_special or getattr(hub.handle_error, "__func__", None) is not Hub.handle_error:
        hub.handle_error(source, type(error), error, error.__traceback__)
        return

    def describe() -> str:
        peer = f", peer {peer_of(message[0])}" if message and source.kind in PER_PEER else ""
        text, name = text_of(error), repr(source)
        return f"{text}{peer}" if name in text else f"{name}: {text}{peer}"

    (_refused if isinstance(error, SendError) else _failed)(describe, error)

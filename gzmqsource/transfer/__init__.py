"""Moving messages between a socket and Python.

Three calls do the work: read ``EVENTS``, receive up to a limit, send until ``EAGAIN``. None of
them ever waits, and each of them may eat the socket's edge (see `gzmqsource.readiness`).
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any, Protocol

import zmq

from gzmqsource.transfer.message import Message
from gzmqsource.transfer.pure import PureTransfer

__all__ = ["Transfer", "backend", "transfer_for"]


class Transfer(Protocol):
    """The calls of one socket. Errors are pyzmq's own exceptions."""

    def events(self) -> int:
        """Read ``ZMQ_EVENTS``, after every command in the mailbox was processed."""

    def receive(
        self, into: deque[list[Any]] | list[list[Any]], max_messages: int, max_bytes: int
    ) -> bool:
        """Append whole messages until ``EAGAIN`` or a limit.

        Returns True if libzmq has no more. An error is raised after what was received before it
        has been appended.
        """

    def send(self, messages: deque[Message], max_messages: int) -> bool:
        """Send from the left of a queue, and remove what libzmq has taken.

        Returns False if libzmq takes no more now. An error belongs to the message that is then
        the leftmost.
        """

    def send_one(self, message: Message) -> bool:
        """Send one whole message; False if libzmq does not take it now."""


_wanted = os.environ.get("GZMQSOURCE_TRANSFER", "pure")
if _wanted != "pure":
    raise ImportError(f"GZMQSOURCE_TRANSFER={_wanted}: this build has only 'pure'")

#: Which transfer is in use.
backend = "pure"


def transfer_for(socket: zmq.Socket[Any], copy: bool = True) -> Transfer:
    """Give the transfer of a socket; with ``copy=False`` it receives `zmq.Frame` objects."""
    return PureTransfer(socket, copy)

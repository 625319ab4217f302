"""What a requester does for many calls at once, in turns: the hub polls in between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

import gevent
import zmq

from gzmqsource._socket.budget import yield_to_io
from gzmqsource._source.source import Source

_T = TypeVar("_T")

#: The most calls that end between two polls of the hub. Each takes some 10 us, most of it in the
#: greenlet that raises.
TURN = 32


def in_turns(calls: Iterable[_T]) -> Iterator[_T]:
    """Iterate over calls, and yield to I/O after each `TURN` of them."""
    for number, call in enumerate(calls, start=1):
        yield call
        if not number % TURN:
            yield_to_io(gevent.get_hub())


def hear_out(source: Source, most: int) -> None:
    """Take the replies that are there, for *most* turns at most: others may come all the time."""
    with contextlib.suppress(zmq.ZMQError):  # the context has ended, and so will the source
        for _ in range(most):
            if source.closed:
                return
            if not (int(source.socket.get(zmq.EVENTS)) & zmq.POLLIN or source.stats().in_hand):
                return
            yield_to_io(gevent.get_hub())

"""Work for many calls or askers, done in turns: the hub polls in between."""

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


def in_turns(items: Iterable[_T], most: int = TURN) -> Iterator[_T]:
    """Iterate over calls, or other items that take time, and yield to I/O after each *most*."""
    for number, item in enumerate(items, start=1):
        yield item
        if not number % most:
            yield_to_io(gevent.get_hub())


def hear_out(source: Source, most: int) -> None:
    """Take the replies that are there, for at most *most* turns: others may keep coming."""
    with contextlib.suppress(zmq.ZMQError):  # the context has ended, and the source will end
        for _ in range(most):
            if source.closed:
                return
            if not (int(source.socket.get(zmq.EVENTS)) & zmq.POLLIN or source.stats().in_hand):
                return
            yield_to_io(gevent.get_hub())

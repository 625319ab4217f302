"""A kit for the tests of programs that use sources: waiting, robbing, filling, forking, leaks.

What goes wrong with ZeroMQ under gevent goes wrong in the moment in which nobody looks. These
functions make that moment: `all_blocked` brings it about without a sleep, `steal_edge` robs a
waiting greenlet, `fill` stops a sender, `in_forked_child` runs a function after a fork, and
`no_leaks` counts what is left.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gevent
import gevent.os
import zmq
from gevent.hub import get_hub
from gevent.monkey import get_original
from zmq.backend import Socket as BackendSocket

from gzmqsource._source import registry
from gzmqsource._source.source import Source
from gzmqsource.transfer.message import AnyMessage

_T = TypeVar("_T")

# Not gevent's, which may never return in the child if the hub's thread pool was used.
_fork: Callable[[], int] = get_original("os", "fork")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")


def wait_until(condition: Callable[[], _T], timeout: float = 10) -> _T:
    """Wait until *condition* gives something true, and return that.

    Parameters
    ----------
    timeout : float
        Seconds.

    Raises
    ------
    AssertionError
        It did not in time.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {condition}"
        gevent.sleep(0.001)
    return value


def all_blocked(turns: int = 3) -> None:
    """Let every greenlet of this hub run until it waits for I/O or the clock.

    A timer of the shortest time comes after the callbacks and the I/O of a turn of the loop, so
    when *turns* in a row leave no callback behind, nothing that was ready is left. What another
    process or thread, libzmq's included, has yet to do is not waited for.
    """
    loop: Any = get_hub().loop
    quiet = 0
    while quiet < turns:
        with loop.timer(0.001) as timer:
            get_hub().wait(timer)
        quiet = quiet + 1 if not loop.pendingcnt else 0


def steal_edge(source: Source) -> int:
    """Read ``ZMQ_EVENTS`` behind a source's back, as a call on the raw socket does.

    A greenlet that waits on the source is not woken by what has come so far; ``source.socket``,
    or any call of the source, finds it. ``GZMQSOURCE_DEBUG=1`` reports it.

    Returns
    -------
    int
        ``ZMQ_EVENTS``.
    """
    source.check()
    return int(BackendSocket.get(source._core.raw, zmq.EVENTS))


def fill(source: Source, message: AnyMessage = b"x", most: int = 1_000_000) -> int:
    """Send until libzmq takes no more, for its peers do not read or are full.

    Parameters
    ----------
    message
        What is sent; to a ROUTER with the routing id of the peer that is filled.
    most : int
        How many messages at most.

    Returns
    -------
    int
        How many libzmq took; nothing is left in the outbox.

    Raises
    ------
    AssertionError
        It took *most*: a PUB, or a ROUTER without ``ROUTER_MANDATORY``, drops instead.
    ValueError
        Messages are queued already.
    """
    if source.stats().outbox_depth:
        raise ValueError(f"{source!r} has messages queued: flush it first")
    for taken in range(most):
        source.send_nowait(message)
        if source.stats().outbox_depth and not source.flush(timeout=0.05):
            source.withdraw(message)
            return taken
    raise AssertionError(f"{source!r} took {most} messages: it drops them, or somebody reads")


def in_forked_child(function: Callable[[], object], timeout: float = 10) -> None:
    """Call a function in a child of ``os.fork``, and wait for its end in the hub.

    If it waits, libev's loop goes on in the child; with libuv it calls `gevent.reinit` first.

    Raises
    ------
    AssertionError
        It raised; the text has the child's traceback. Or it took longer than *timeout*, in
        seconds, and was killed.
    """
    reading, writing = os.pipe()
    child = _fork()
    if child == 0:
        text = b""
        try:
            function()
        except BaseException:
            text = traceback.format_exc().encode(errors="replace")
        with contextlib.suppress(OSError):
            os.write(writing, text[-(1 << 15) :] or b"good")
        os._exit(0)
    os.close(writing)
    gevent.os.make_nonblocking(reading)
    said = b""
    try:
        with gevent.Timeout(timeout):
            while part := gevent.os.nb_read(reading, 1 << 16):
                said += part
    except gevent.Timeout:
        said = said or f"no word within {timeout} s".encode()
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)
        with contextlib.suppress(ChildProcessError):
            _waitpid(child, 0)
    assert said == b"good", f"in the child: {said.decode()}"


@contextlib.contextmanager
def no_leaks(timeout: float = 10) -> Iterator[None]:
    """Check that a block leaves no file descriptor, greenlet or open source behind.

    Sources of this process that were there before may have been closed. libzmq closes descriptors
    after a while, so they are waited for, *timeout* in seconds. The first context of a process
    opens descriptors that stay: make it before.

    Raises
    ------
    AssertionError
        Something is left; the text tells what.
    """
    before = _Census()
    yield
    deadline = time.monotonic() + timeout
    while left := _Census().beyond(before):
        assert time.monotonic() < deadline, f"left behind: {'; '.join(left)}"
        gevent.sleep(0.01)


class _Census:
    """What this process has open."""

    def __init__(self) -> None:
        all_blocked()
        gc.collect()
        self.descriptors = {}
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # that of the listing itself
                self.descriptors[descriptor] = os.readlink(f"/proc/self/fd/{descriptor}")
        self.greenlets = {
            id(each): repr(each)
            for each in gc.get_objects()
            if isinstance(each, gevent.Greenlet) and not each.dead
        }
        self.sources = {
            key: repr(core) for key, core in list(registry.live.items()) if not core.closed
        }

    def beyond(self, before: _Census) -> list[str]:
        """Describe what is here and was not there before."""
        left = []
        if len(self.descriptors) > len(before.descriptors):
            new = self.descriptors.keys() - before.descriptors.keys()
            left += [f"descriptor {each}: {self.descriptors[each]}" for each in sorted(new)]
        for now, then in (
            (self.greenlets, before.greenlets),
            (self.sources, before.sources),
        ):
            left += [now[key] for key in now.keys() - then.keys()]
        return left

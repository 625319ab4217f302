"""Tools for the tests of programs that use sources.

Bugs with ZeroMQ under gevent hide in rare moments, which these functions create: `all_blocked`
waits, without a sleep, until every greenlet is blocked, `steal_edge` takes the edge from a waiting
greenlet, `fill` makes a sender block, `in_forked_child` runs a function after a fork, and
`no_leaks` checks what a block leaves behind.
"""

from __future__ import annotations

import contextlib
import gc
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gevent
import gevent.os
import zmq
from gevent.hub import get_hub
from gevent.monkey import get_original
from zmq.backend import Socket as BackendSocket

from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._source import registry
from gzmqsource._source.source import Source
from gzmqsource.transfer.message import AnyMessage

__all__ = [
    "all_blocked",
    "fill",
    "in_forked_child",
    "no_leaks",
    "steal_edge",
    "wait_until",
]

_T = TypeVar("_T")

#: Where the process's descriptors are; a container may have no ``/dev/fd``, and macOS no ``/proc``.
_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"

# Not gevent's, which may never return in the child if the hub's thread pool was used.
_fork: Callable[[], int] = get_original("os", "fork")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")


def wait_until(condition: Callable[[], _T], timeout: float = 10) -> _T:
    """Wait until *condition* returns a true value, and return that value.

    Parameters
    ----------
    condition : callable
        Called without arguments, about every millisecond.
    timeout : float
        Seconds to wait at most.

    Raises
    ------
    AssertionError
        It returned no true value in time.
    """
    deadline = Deadline(timeout)
    while not (value := condition()):
        if deadline.left() == 0:
            raise AssertionError(f"not within {timeout} s: {condition}")
        gevent.sleep(0.001)
    return value


def all_blocked(turns: int = 3) -> None:
    """Let every greenlet of this hub run until it waits for I/O or the clock.

    The shortest timer fires after the callbacks and the I/O of a turn of the loop, so once *turns*
    in a row have left no callback behind, nothing that was ready is left. This does not wait for
    other processes or threads, libzmq's included.

    Parameters
    ----------
    turns : int
        How many turns in a row must leave no callback behind.
    """
    loop: Any = get_hub().loop
    quiet = 0
    while quiet < turns:
        with loop.timer(0.001) as timer:
            get_hub().wait(timer)
        quiet = quiet + 1 if not loop.pendingcnt else 0


def steal_edge(source: Source[Any]) -> int:
    """Read ``ZMQ_EVENTS`` without the source, as a call on the raw socket does.

    Messages that have arrived so far do not wake a greenlet that waits on the source, until
    ``source.socket`` or a call of the source finds them. ``GZMQSOURCE_DEBUG=1`` reports it.

    Parameters
    ----------
    source : Source
        The source whose edge is taken.

    Returns
    -------
    int
        ``ZMQ_EVENTS``.

    Raises
    ------
    InvalidThreadUseError, SourceClosed
        The source belongs to the hub of another thread, or is closed.
    """
    source.check()
    return int(BackendSocket.get(source._core.raw, zmq.EVENTS))


def fill(source: Source[Any], message: AnyMessage = b"x", most: int = 1_000_000) -> int:
    """Send until libzmq takes no more messages, because the peers do not read.

    Parameters
    ----------
    source : Source
        The source that sends.
    message
        The message to send; on a ROUTER, with the routing id of the peer to fill.
    most : int
        The most messages to send.

    Returns
    -------
    int
        How many messages libzmq took; nothing is left in the outbox.

    Raises
    ------
    AssertionError
        It took *most*: a PUB, or a ROUTER without ``ROUTER_MANDATORY``, drops messages instead.
    ValueError
        Messages are queued already.
    InvalidThreadUseError, SourceClosed, SendError
        As for `gzmqsource.Source.send`.
    """
    if source.stats().outbox_depth:
        raise ValueError(f"{source!r} has messages queued: flush it first")
    for taken in range(most):
        source.send_nowait(message)
        if source.stats().outbox_depth and not source.flush(timeout=0.05):
            source.withdraw(message)
            return taken
    raise AssertionError(f"{source!r} took {most} messages: it drops them, or a peer reads")


def in_forked_child(function: Callable[[], object], timeout: float = 10) -> None:
    """Call a function in a child of ``os.fork``, and wait in the hub until it has returned.

    A function that waits can use libev's loop as it is; over libuv it must call `gevent.reinit`
    first.

    Parameters
    ----------
    function : callable
        Called without arguments.
    timeout : float
        Seconds after which the child is killed.

    Raises
    ------
    AssertionError
        The function raised, and the text holds the child's traceback; or it timed out.
    """
    limit = check_timeout(timeout)
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
        with gevent.Timeout(limit):
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
    if said != b"good":
        raise AssertionError(f"in the child: {said.decode()}")


@contextlib.contextmanager
def no_leaks(timeout: float = 10) -> Iterator[None]:
    """Check that a block leaves no file descriptor, greenlet or open source behind.

    The block may close resources that were open before. The first context of a process opens
    descriptors that stay open: make it before the block.

    Parameters
    ----------
    timeout : float
        Seconds to wait for descriptors, which libzmq closes after a while.

    Raises
    ------
    AssertionError
        Something is left; the text lists it.
    """
    check_timeout(timeout)
    before = _Census()
    yield
    deadline = Deadline(timeout)
    while left := _Census().beyond(before):
        if deadline.left() == 0:
            raise AssertionError(f"left behind: {'; '.join(left)}")
        gevent.sleep(0.01)


def _target_of(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # macOS has no names for descriptors
        return "open"


class _Census:
    """The open resources of this process."""

    def __init__(self) -> None:
        all_blocked()
        gc.collect()
        self.descriptors = {}
        for descriptor in os.listdir(_DESCRIPTORS):
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.fstat(int(descriptor))
                self.descriptors[descriptor] = _target_of(f"{_DESCRIPTORS}/{descriptor}")
        self.greenlets = {
            id(each): repr(each)
            for each in gc.get_objects()
            if isinstance(each, gevent.Greenlet) and not each.dead
        }
        self.sources = {
            key: repr(core) for key, core in list(registry.live.items()) if not core.closed
        }

    def beyond(self, before: _Census) -> list[str]:
        """Describe the resources that are open now and were not before."""
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

"""The edge of a ``ZMQ_FD``, turned into "wait until readable" and "wait until writable".

What libzmq gives
-----------------
A socket has one file descriptor, ``ZMQ_FD``. It is only ever *readable*, and that says one thing:
the socket's mailbox holds commands. A peer was attached, messages arrived, a full pipe was read
from, the context ends: ``ZMQ_EVENTS`` tells which, *after* it has processed the commands. So the
descriptor is edge-triggered (zmq_getsockopt(3)): it goes quiet when the mailbox is read, whatever
the socket could still do.

Three rules follow, and this module is their one home.

**Every call that reads the mailbox eats the edge**, also one that fails: send, recv, reading
``EVENTS``, bind, connect, unbind, disconnect, zmq_poll, some options. Whoever waits would sleep
for ever. So after each such call the owner calls `Readiness.check`, and before the loop polls
again the socket is looked at once for all who wait. Over ``inproc`` a bind or connect attaches the
pipe without any edge; the same look serves it.

**An edge means: retry.** ``POLLIN`` can be trusted, a receive then succeeds; only the name of an
authenticated peer, which libzmq puts in front of its first message, may set it alone, once.
``POLLOUT`` cannot, on the types in `_ANY_PEER`: a ROUTER with ``ROUTER_MANDATORY`` has it while one
peer of many has room, and never has it when the last peer is gone, where only the retry tells
``EHOSTUNREACH``. A writer there retries once after each edge, and never while ``POLLOUT`` lasts.

**Each direction's attempt may rob the other.** A receive that ends in ``EAGAIN`` has processed all
commands, so writers are given a look. A send processes them too, but only if none has for some
time (libzmq's ``max_command_delay``, 3,000,000 ticks of its clock, about 1 ms), so after a failed
send readers are given a look, and that look in turn may rob the writer: `Readiness.write` goes on
until its last call has eaten nothing.

A waiter leaves the queue and runs in one step of the hub, so no wake-up is lost between the two: a
greenlet that is killed or timed out was either still in the queue, or has run. The watcher runs
while somebody waits, so an idle socket keeps neither itself nor the loop alive, and nothing is on
the clock.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import zmq
from gevent.hub import Waiter, get_hub

_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)

#: Socket types whose ``POLLOUT`` does not speak for the message at hand: it stands for any peer
#: (ROUTER, STREAM), or is always set while ``XPUB_NODROP`` still gives ``EAGAIN``.
_ANY_PEER = frozenset({zmq.ROUTER, zmq.STREAM, zmq.PUB, zmq.XPUB})


class Polled(Protocol):
    """A socket's place in a set that is polled."""

    #: The bits of ``ZMQ_EVENTS`` that are polled for.
    mask: int

    @property
    def is_waiting(self) -> bool:
        """Whether a greenlet waits."""

    def suspect(self) -> None:
        """Take note that a call may have changed the events, and has eaten the edge."""

    def wake(self) -> None:
        """Let those who wait look, soon."""

    def silence(self) -> None:
        """Let the inherited watchers of a forked child go, without waking anybody."""


class Readiness:
    """Waiting on one zmq socket, for any number of greenlets of one hub, in FIFO order.

    Parameters
    ----------
    socket : zmq.Socket
        Only its descriptor and its type are taken.
    events : callable
        Reads ``ZMQ_EVENTS`` of that socket.
    ref : bool
        Whether a waiting greenlet keeps the hub's loop running.
    """

    #: Seconds after which a failed attempt is confirmed once, on the types in `_ANY_PEER`. Above
    #: libzmq's ``max_command_delay`` on every clock it uses (3 ms for a counter of 1 GHz, less
    #: for a faster one), so that the first send then surely processes commands.
    confirm_after = 0.01

    #: Seconds that an attempt and its confirmation may take together to count as undisturbed.
    #: Below ``max_command_delay`` of the fastest clock (0.5 ms for 6 GHz).
    undisturbed = 0.0004

    def __init__(
        self, socket: zmq.Socket[Any], events: Callable[[], int], ref: bool = True
    ) -> None:
        self.hub = get_hub()
        #: How many edges have been seen.
        self.edges = 0
        self._fd = socket.fileno()
        self._events = events
        self._ref = ref
        #: Whether ``POLLOUT`` tells that a retry can succeed.
        self.pollout_is_exact = socket.get(zmq.TYPE) not in _ANY_PEER
        #: Who waits, in FIFO order; for others to look at, not to touch. Lists, for an empty deque
        #: takes 700 bytes more, and few greenlets wait on one socket.
        self.readers: list[Waiter[object]] = []
        self.writers: list[Waiter[object]] = []
        #: Who polls this socket beside others, waiting or not.
        self.pollers: list[Polled] = []
        self._watcher: Any = None
        self._look_scheduled = False
        #: Whether waiting is over for good.
        self.closed = False
        #: Whether this is the copy of a parent's in a forked child.
        self.forked = False
        _live.add(self)

    @property
    def waiting(self) -> int:
        """How many greenlets wait."""
        polling = sum(poller.is_waiting for poller in self.pollers)
        return len(self.readers) + len(self.writers) + polling

    def check(self) -> None:
        """Look at the socket again before the loop polls: a call may have eaten the edge.

        To be called after each call that reads the mailbox. Many calls in one turn of the hub
        share one look, and with nobody waiting it costs nothing.
        """
        for poller in self.pollers:
            poller.suspect()
        if not self._look_scheduled and self.waiting:
            self._look_scheduled = True
            self.hub.loop.run_callback(self._look)

    def wait_readable(self, timeout: float | None = None) -> bool:
        """Wait until a receive should be tried; to be called after one that gave ``EAGAIN``.

        That one has processed all commands, so `check` comes first if others wait, too.

        Returns
        -------
        bool
            False if *timeout*, in seconds, ran out. True means *retry*, and no more than that:
            also a close wakes everybody.
        """
        return self._wait(self.readers, timeout)

    def write(self, attempt: Callable[[], bool]) -> None:
        """Call *attempt* until it returns True; in between, wait for the edges.

        Parameters
        ----------
        attempt : callable
            Sends without waiting. It returns True if libzmq took something, or if there is no
            more reason to wait. One greenlet at a time may be here.

        Notes
        -----
        If the greenlet is killed it leaves between two attempts.
        """
        confirmed = False
        while not self.closed:
            started = time.monotonic()
            if attempt():
                break
            events = self._read_events()
            self.tell(events)
            if self.pollout_is_exact:
                if not events & _POLLOUT:
                    self._wait(self.writers, None)
                continue
            # The look may have eaten what the attempt needs, and POLLOUT does not tell. A second
            # attempt does. It eats nothing itself if the first has processed commands just now,
            # which is sure when a confirming pause lies before it.
            if attempt():
                break
            if confirmed and time.monotonic() - started < self.undisturbed:
                self._wait(self.writers, None)
                confirmed = False
            else:
                confirmed = not self._wait(self.writers, self.confirm_after)
        self.check()

    def tell(self, events: int) -> None:
        """Wake whom *events* let go on; for who has read ``ZMQ_EVENTS``, and so eaten the edge."""
        if events & _POLLIN and self.readers:
            self.hub.loop.run_callback(self._wake, self.readers, 1)
        if self.writers and (events & _POLLOUT or not self.pollout_is_exact):
            self.wake_writers()
        for poller in self.pollers:
            if events & poller.mask:
                poller.wake()

    def wake_all(self) -> None:
        """Make everybody who waits now look at its owner's state."""
        for poller in self.pollers:
            poller.wake()
        if not self.waiting:
            return
        self.hub.loop.run_callback(self._wake, self.readers, len(self.readers))
        self.wake_writers()

    def wake_writers(self) -> None:
        """Make the writers that wait now try again."""
        self.hub.loop.run_callback(self._wake, self.writers, len(self.writers))

    def missed_edge(self) -> bool:
        """Tell whether somebody waits who need not, with no edge to come. For the watchdog.

        It may eat the edge, so a `check` has to follow.
        """
        if not self.waiting or self._look_scheduled or select.select([self._fd], [], [], 0)[0]:
            return False
        events = self._events()
        could_read = bool(self.readers and events & _POLLIN)
        could_write = bool(self.writers and events & _POLLOUT and self.pollout_is_exact)
        return (
            could_read
            or could_write
            or any(poller.is_waiting and events & poller.mask for poller in self.pollers)
        )

    def close(self) -> None:
        """Stop and close the watcher, then wake everybody who waits.

        It can be called more than once. The descriptor is the socket's and stays open.
        """
        self.closed = True
        _live.discard(self)
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        self.wake_all()

    def silence(self) -> None:
        """Let the inherited watcher of a forked child go, without waking anybody.

        It is stopped by the child's loop, not here: until gevent has renewed the loop's own
        descriptor, stopping would remove the parent's registration from the shared epoll set.
        """
        self.closed = self.forked = True
        for poller in self.pollers:
            poller.silence()
        if self._watcher is not None and self.hub.loop is not None:
            self.hub.loop.run_callback(self._watcher.stop)

    def _wait(self, queue: list[Waiter[object]], timeout: float | None) -> bool:
        if self.closed:
            return True
        self._start_watcher()
        waiter: Waiter[object] = Waiter(self.hub)
        timer = None if timeout is None else self.hub.loop.timer(timeout, ref=self._ref)
        queue.append(waiter)
        try:
            if timer is not None:
                # The loop's clock stands still while a greenlet holds up the hub.
                timer.start(waiter.switch, _TIMED_OUT, update=True)
            return waiter.get() is not _TIMED_OUT
        finally:
            if timer is not None:
                timer.close()
            if waiter in queue:
                queue.remove(waiter)
            self._stop_watcher()

    def _start_watcher(self) -> None:
        if self._watcher is None:
            self._watcher = self.hub.loop.io(self._fd, 1, ref=self._ref)
        if not (self.readers or self.writers):
            self._watcher.start(self._on_edge)

    def _stop_watcher(self) -> None:
        if not (self.readers or self.writers) and self._watcher is not None:
            self._watcher.stop()

    def _on_edge(self) -> None:
        self.edges += 1
        if self.closed:
            if self._watcher is not None:
                self._watcher.stop()
        elif len(self.readers) == 1 and not self.writers and not self.pollers:
            # The retry tells as much as EVENTS would, for 2 us less.
            self.readers.pop().switch(None)
        else:
            self._look()

    def _look(self) -> None:
        """Wake, in the hub, who can go on: the first reader, and the writers.

        Reading ``EVENTS`` has eaten the writers' edge, so where it does not tell they retry.
        """
        self._look_scheduled = False
        if self.closed:
            return
        events = self._read_events()
        if events & _POLLIN:
            self._wake(self.readers, 1)
        if events & _POLLOUT or not self.pollout_is_exact:
            self._wake(self.writers, len(self.writers))
        for poller in self.pollers:
            if events & poller.mask:
                poller.wake()

    def _read_events(self) -> int:
        try:
            return self._events()
        except zmq.ZMQError:
            # The context or the socket is gone: the retry of each one tells it.
            self.wake_all()
            return _POLLOUT

    def _wake(self, queue: list[Waiter[object]], most: int) -> None:
        """Switch into waiters; in the hub, so that nothing comes between leaving and running."""
        for _ in range(min(most, len(queue))):
            if queue:
                queue.pop(0).switch(None)


_TIMED_OUT = object()

_live: weakref.WeakSet[Readiness] = weakref.WeakSet()


def _silence_inherited() -> None:
    for readiness in list(_live):
        readiness.silence()
    _live.clear()


os.register_at_fork(after_in_child=_silence_inherited)

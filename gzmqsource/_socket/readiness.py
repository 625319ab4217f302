"""The edge of a ``ZMQ_FD``, turned into "wait until readable" and "wait until writable".

What libzmq provides
--------------------
A socket has one file descriptor, ``ZMQ_FD``. It is only ever *readable*, and that means one thing:
the socket's mailbox holds commands. A peer was attached, messages arrived, a full pipe was read
from, the context ends: ``ZMQ_EVENTS`` says which, *after* it has processed the commands. So the
descriptor is edge-triggered (zmq_getsockopt(3)): it goes quiet when the mailbox is read, whatever
the socket could still do.

Three rules follow, and only this module has to know them.

**Every call that reads the mailbox eats the edge**, also one that fails: those of
`gzmqsource._socket.calls`, and ``zmq_poll``. A waiting greenlet would sleep forever. So after
each such call the owner calls `Readiness.recheck`, and before the loop polls again the socket is
looked at once for all greenlets that wait. Over ``inproc`` a bind or connect attaches the pipe
without any edge; the same look serves it.

**An edge means: retry.** ``POLLIN`` can be trusted, a receive then succeeds; only the name of an
authenticated peer, which libzmq puts in front of its first message, may set it alone, once.
``POLLOUT`` cannot, on the types in `_ANY_PEER`: a ROUTER with ``ROUTER_MANDATORY`` has it while one
peer of many has room, and never has it when the last peer is gone, where only the retry reports
``EHOSTUNREACH``. There the writers, who may wait for different peers, retry in rounds: a round
follows each edge, and none while ``POLLOUT`` lasts.

**Each direction's attempt may rob the other.** A receive that ends in ``EAGAIN`` has processed all
commands, so the writers are looked at, too. A send processes them as well, but only if none has for
some time (libzmq's ``max_command_delay``, 3,000,000 ticks of its clock, about 1 ms), so after a
failed send the readers are looked at, and that look in turn may rob the writers: rounds are
repeated until the last call of one has eaten nothing.

**Each greenlet acts for itself.** What waits is woken to retry, and is never served by another
greenlet. A `gevent.Timeout` may come between a notification and its arrival, and so would be raised
although the message had been sent.

The watcher runs while a greenlet waits, so an idle socket keeps neither itself nor the loop alive,
and costs no timer.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import zmq
from gevent.hub import get_hub

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.waiters import Waiters
from gzmqsource._socket.budget import Budget
from gzmqsource._socket.pollers import Pollable, Pollers

_POLLIN, _POLLOUT, _POLLERR = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.POLLERR)

#: Socket types whose ``POLLOUT`` says nothing about the message at hand: it stands for any peer
#: (ROUTER, STREAM), or is always set although ``XPUB_NODROP`` still leads to ``EAGAIN``.
_ANY_PEER = frozenset({zmq.ROUTER, zmq.STREAM, zmq.PUB, zmq.XPUB})


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
    budget : Budget
        The budget of that socket.
    """

    #: Seconds after which a failed round is confirmed once, on the types in `_ANY_PEER`. Above
    #: libzmq's ``max_command_delay`` on every clock it uses (3 ms for a counter of 1 GHz, less
    #: for a faster one), so that the first send then certainly processes commands.
    confirm_after = 0.01

    #: Seconds that a round may take to count as undisturbed.
    #: Below ``max_command_delay`` of the fastest clock (0.5 ms for 6 GHz).
    undisturbed = 0.0004

    def __init__(
        self,
        socket: zmq.Socket[Any],
        events: Callable[[], int],
        ref: bool,
        budget: Budget,
    ) -> None:
        self.hub = get_hub()
        #: How many edges have been seen.
        self.edges = 0
        self._fd = socket.fileno()
        self._events = events
        self._ref = ref
        self._budget = budget
        self._shared = budget.shared
        #: Whether ``POLLOUT`` means that a retry can succeed.
        self.pollout_is_exact = socket.get(zmq.TYPE) not in _ANY_PEER
        #: The greenlets that wait; other classes may read these, and not change them.
        self.readers = Waiters()
        self.writers = Waiters()
        #: The sets that poll this socket.
        self.pollers = Pollers()
        self._watcher: Any = None
        self._look_scheduled = False
        self._in_round = False
        self._confirm_timer: Any = None
        #: Whether waiting is over for good.
        self.closed = False

    @property
    def waiting(self) -> int:
        """How many greenlets wait."""
        return len(self.readers) + len(self.writers) + self.pollers.waiting

    def recheck(self) -> None:
        """Look at the socket again before the loop polls: a call may have eaten the edge.

        Call this after each call that reads the mailbox. Many calls in one turn of the hub
        share one look, and while no greenlet waits it costs nothing.
        """
        self.pollers.mark_stale()
        if not self._look_scheduled and self.waiting:
            self._look_soon()

    def wait_readable(self, timeout: float | None = None, again: bool = False) -> bool:
        """Wait until a receive should be tried; call this after one that failed with ``EAGAIN``.

        That receive has processed all commands, so if other greenlets wait, too, call `recheck`
        first.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None waits forever.
        again : bool
            Whether the greenlet was woken and has found nothing. It keeps its place.

        Returns
        -------
        bool
            False if *timeout* ran out. True means *retry* and nothing more: closing wakes every
            greenlet, too.
        """
        return self._wait(self.readers, timeout, again)

    def write(self, attempt: Callable[[], bool], timeout: float | None = None) -> bool:
        """Call *attempt* until it returns True; in between, wait for the edges.

        Parameters
        ----------
        attempt : callable
            Sends without waiting. It returns True if libzmq took something, or if there is no
            longer a reason to wait.
        timeout : float or None
            Seconds to wait at most; None waits forever.

        Returns
        -------
        bool
            False if *timeout* ran out.

        Notes
        -----
        If the greenlet is killed, it stops between two attempts.
        """
        deadline = Deadline(timeout)
        while not attempt():
            if self.closed or not self._wait_writable(deadline.left()):
                return False
        self.recheck()
        return True

    def notify(self, events: int) -> None:
        """Wake the greenlets that can proceed, according to *events*.

        Call this after reading ``ZMQ_EVENTS``, which has eaten the edge.
        """
        if events & _POLLIN and self.readers:
            self.hub.loop.run_callback(self.readers.wake, 1)
        if self.writers and (events & _POLLOUT or not self.pollout_is_exact):
            self.wake_writers()
        self.pollers.wake(events)

    def add_poller(self, poller: Pollable) -> None:
        """Wake a set that polls from now on, when its turn comes."""
        if not self.closed:
            self._start_watching()
            self.pollers.queue(poller)

    def remove_poller(self, poller: Pollable) -> None:
        """Wake a set no more; what it was woken for may be the next one's."""
        self.pollers.discard(poller)
        self._stop_watching()
        self.recheck()

    def wake_all(self) -> None:
        """Make every greenlet that waits now look at its owner's state."""
        self.pollers.wake_all(self.hub)
        self.readers.wake_all()
        if self.writers:
            self.wake_writers()

    def wake_writers(self) -> None:
        """Make the writers that wait now try again."""
        self.hub.loop.run_callback(self.writers.wake, len(self.writers))

    def missed_edge(self) -> bool:
        """Return whether a greenlet waits although its socket is ready and no edge is pending.

        For the watchdog. It may eat the edge, so a `recheck` has to follow.
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
        """Stop and close the watchers, then wake every greenlet that waits.

        It can be called more than once. The descriptor is the socket's and stays open.
        """
        self.closed = True
        self.pollers.unwatch()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        self._stop_confirming()
        self.wake_all()

    def abandon(self) -> None:
        """Stop the inherited watcher in a forked child, without waking a greenlet.

        It is stopped by the child's loop, not here: until gevent has renewed the loop's own
        descriptor, stopping would remove the parent's registration from the shared epoll set.
        """
        self.closed = True
        for poller in self.pollers:
            poller.abandon()
        if self._watcher is not None and self.hub.loop is not None:
            self.hub.loop.run_callback(self._watcher.stop)

    def _wait_writable(self, timeout: float | None) -> bool:
        """Wait until a send should be tried, after one that failed and may have eaten the edge."""
        if self.pollout_is_exact:
            events = self._read_events()
            self.notify(events)
            if events & _POLLOUT:
                return True
        elif not self._in_round and not self._look_scheduled:
            self._look_soon()
        return self._wait(self.writers, timeout)

    def _wait(self, queue: Waiters, timeout: float | None, again: bool = False) -> bool:
        if self.closed:
            return True
        self._start_watching()
        try:
            # One look is the last: each would make a writer try again, and wait again.
            look = self.recheck if timeout else None
            return queue.wait(self.hub, timeout, self._ref, look, again)
        finally:
            self._stop_watching()
            if not self.writers:
                self._stop_confirming()

    def _start_watching(self) -> None:
        if self._watcher is None:
            self._watcher = self.hub.loop.io(self._fd, 1, ref=self._ref)
        # Most sockets have no pollers, and the property takes 0.1 us.
        if not (self.readers or self.writers or (self.pollers and self.pollers.queued)):
            self._watcher.start(self._on_edge)

    def _stop_watching(self) -> None:
        has_waiting = self.readers or self.writers or (self.pollers and self.pollers.queued)
        if self._watcher is not None and not has_waiting:
            self._watcher.stop()

    def _on_edge(self) -> None:
        if self._shared.queue:
            self._shared.run(self._budget, self._serve)
        else:
            self._serve()

    def _serve(self) -> None:
        """Resume those that may proceed after an edge."""
        self.edges += 1
        if self.closed:
            if self._watcher is not None:
                self._watcher.stop()
        elif self.writers or len(self.readers) + len(self.pollers) > 1:
            self._look()
        # The only one: its retry says as much as EVENTS would, for 2 us less.
        elif self.readers:
            self.readers.popitem()[0].switch(None)
        elif self.pollers:
            next(iter(self.pollers)).wake_now()

    def _look_soon(self) -> None:
        # A hub that was destroyed has no loop, and its greenlets wait forever.
        if self.hub.loop is not None:
            self._look_scheduled = True
            self.hub.loop.run_callback(self._look)

    def _look(self) -> None:
        """Wake, in the hub, the greenlets that can proceed: the first reader, and the writers."""
        self._look_scheduled = False
        if self.closed:
            return
        if self.writers and not self.pollout_is_exact:
            self._round(is_confirmed=False)
            return
        events = self._read_events()
        self._wake(events)
        if events & _POLLOUT:
            self.writers.wake(len(self.writers))

    def _round(self, is_confirmed: bool) -> None:
        """Have each writer retry, look, and have each writer retry again.

        The look may have eaten what a writer needs, and ``POLLOUT`` does not say. A second attempt
        does. It eats nothing itself if the first has just processed commands, which is certain in
        a confirmed round: one that follows `confirm_after` without an edge. So that one ends the
        retries, if it was quick enough.
        """
        self._stop_confirming()
        started = time.monotonic()
        self._in_round = True
        try:
            self.writers.wake(len(self.writers))
            if not self.closed:
                self._wake(self._read_events())
                self.writers.wake(len(self.writers))
        finally:
            self._in_round = False
        is_over = is_confirmed and time.monotonic() - started < self.undisturbed
        if self.writers and not self.closed and not is_over:
            self._confirm_timer = self.hub.loop.timer(self.confirm_after, ref=self._ref)
            self._confirm_timer.start(self._round, True, update=True)

    def _stop_confirming(self) -> None:
        if self._confirm_timer is not None:
            self._confirm_timer.close()
            self._confirm_timer = None

    def _wake(self, events: int) -> None:
        """Wake the first reader and the polling greenlets, if they can proceed."""
        if events & _POLLIN:
            self.readers.wake(1)
        self.pollers.wake(events)

    def _read_events(self) -> int:
        try:
            return self._events()
        except zmq.ZMQError:
            # The context or the socket is gone: the retry of each greenlet reports it, and has the
            # next one woken.
            return _POLLIN | _POLLOUT | _POLLERR

"""The edge of a ``ZMQ_FD``, turned into "wait until readable" and "wait until writable".

What libzmq provides
--------------------
A socket has one file descriptor, ``ZMQ_FD``. It is only ever *readable*, and that means one thing:
the socket's mailbox holds commands. A peer was attached, messages arrived, a full pipe was read
from, the context ends: ``ZMQ_EVENTS`` says which, *after* it has processed the commands. So the
descriptor is edge-triggered (zmq_getsockopt(3)): it becomes quiet when the mailbox is read,
whatever the socket could still do.

Three rules follow, and only this module has to know them.

**Every call that reads the mailbox consumes the edge**, even a call that fails: those of
`gzmqsource._socket.calls`, and ``zmq_poll``. A waiting greenlet would sleep forever. So with each
such call the owner calls `Readiness.recheck`, and before the loop polls again the socket is looked
at once for all greenlets that wait. Over ``inproc`` a bind or connect attaches the pipe without any
edge; the same look finds it.

**An edge means: retry.** ``POLLIN`` can be trusted, a receive then succeeds; only the name of an
authenticated peer, which libzmq puts in front of its first message, may set it alone, once.
``POLLOUT`` cannot, on the types in `_ANY_PEER`: a ROUTER with ``ROUTER_MANDATORY`` has it while one
peer of many has room, and never has it when the last peer is gone, where only the retry reports
``EHOSTUNREACH``. There the writers, who may wait for a thousand different peers, retry a few at a
time, in rotation: after each edge, and after each look. How, and why none of them is forgotten, is
in `gzmqsource._socket.writers`.

**An attempt in one direction may consume the edge of the other.** A receive that ends in ``EAGAIN``
has processed all commands, so the writers are looked at, too. A send processes them as well, but
only if none has for some time (libzmq's ``max_command_delay``, 3,000,000 ticks of its clock, about
1 ms), so after a failed send the readers are looked at, and that look in turn may consume an edge
of the writers. On the types in `_ANY_PEER` all writers are tried again once nothing has happened
for a while, until it is certain that the last call that consumed an edge came before the last
attempt of each.

Which greenlets are woken
-------------------------
=======================  ==============================  ===========================================
Event                    One peer, or ``POLLOUT`` exact  Types in `_ANY_PEER`, while a writer waits
=======================  ==============================  ===========================================
an edge                  as ``EVENTS`` says: the first   16 hot destinations, and unless the clock
                         reader, all writers, pollers    runs 16 cold ones; the first reader and
                                                         pollers, as ``EVENTS`` says; 16 hot
                                                         destinations; the clock is started
a call that may have     the same, before the hub polls  the same, without the first line; the clock
eaten it: `recheck`                                      alone, while there is none but the cold
an ``EVENTS`` that was   the same, soon                  the same as after such a call
read: `notify`
the clock is due         there is none                   one destination; readers and pollers; all
                                                         destinations
=======================  ==============================  ===========================================

A greenlet that sends to any destination, a source's flusher, is woken once for all that are tried.
Greenlets that send to one destination, those of the drop-in, are woken when their message was taken
or refused. With one reader and nothing else, the reader is woken by the edge itself. The same goes
beside cold destinations while the clock runs, so that peers that never read cost the others
nothing.

A signal handler may use or close the socket between the call that found nothing and the wait. So
calls that may read the mailbox are counted, and a greenlet that has joined its queue looks again if
there were others. The watcher runs while a greenlet waits: an idle socket has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zmq
from gevent.hub import Waiter, get_hub

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.repairs import Repairs
from gzmqsource._base.waiters import Waiters
from gzmqsource._socket.budget import Budget
from gzmqsource._socket.calls import has_edge
from gzmqsource._socket.destinations import Key
from gzmqsource._socket.pollers import Pollable, Pollers
from gzmqsource._socket.writers import EVERY, ManyWriters
from gzmqsource.transfer.interface import Transfer

_POLLIN, _POLLOUT, _POLLERR = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.POLLERR)

#: Socket types whose ``POLLOUT`` says nothing about the message at hand: it stands for any peer
#: (ROUTER, STREAM), or is always set although ``XPUB_NODROP`` still leads to ``EAGAIN``.
_ANY_PEER = frozenset({zmq.ROUTER, zmq.STREAM, zmq.PUB, zmq.XPUB})


class Readiness:
    """Waiting on one zmq socket, for any number of greenlets of one hub, in FIFO order.

    Parameters
    ----------
    socket : zmq.Socket
        Only its descriptor and its type are used.
    transfer : Transfer
        The transfer of that socket.
    ref : bool
        Whether a waiting greenlet keeps the hub's loop running.
    budget : Budget
        The budget of that socket.
    """

    def __init__(
        self, socket: zmq.Socket[Any], transfer: Transfer, ref: bool, budget: Budget
    ) -> None:
        self.hub = get_hub()
        #: How many edges have come.
        self.edges = 0
        self._fd = socket.fileno()
        self._transfer, self._events = transfer, transfer.events
        self._ref = ref
        self._budget = budget
        self._shared = budget.shared
        #: Whether ``POLLOUT`` means that a retry can succeed.
        self.pollout_is_exact = socket.get(zmq.TYPE) not in _ANY_PEER
        #: The greenlets that wait; other classes may read these, but not change them.
        self.readers = Waiters()
        #: The destinations of the writers, where there may be many.
        self.many: ManyWriters | None = None
        if not self.pollout_is_exact:
            self.many = ManyWriters(self.hub, self._look_for_readers, transfer.command_clock, ref)
        self.writers: Waiters | ManyWriters = Waiters() if self.many is None else self.many
        #: The sets that poll this socket.
        self.pollers = Pollers()
        self._watcher: Any = None
        #: Whether `recheck` has nothing to do, unless a set polls.
        self.look_scheduled = False
        self._wake_scheduled = False
        #: Whether waiting is over for good.
        self.closed = False
        self._repairs = Repairs.of(self.hub)
        self._repairs.add(self)

    @property
    def waiting(self) -> int:
        """How many greenlets wait."""
        polling = self.pollers.waiting if self.pollers else 0
        return len(self.readers) + len(self.writers) + polling

    def recheck(self) -> None:
        """Look at the socket again before the loop polls: a call may have consumed the edge.

        Call this before or after each call that reads the mailbox, with no switch in between;
        before it if an error here must not lose the result of the call. Many calls in one turn of
        the hub share one look.
        """
        self._transfer.calls += 1
        if self.pollers:  # few sockets have any
            self.pollers.mark_stale()
        if self.look_scheduled:
            return
        if self.many and not (self.many.destinations.has_hot or self.readers or self.pollers):
            self.many.note_use()
        elif self.waiting:
            self._look_soon()

    def wait_readable(self, timeout: float | None = None, again: bool = False) -> bool:
        """Wait until a receive should be tried; call this after one that failed with ``EAGAIN``.

        That receive has processed all commands, so call `recheck` first if other greenlets wait,
        too.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None waits forever.
        again : bool
            Whether the greenlet was woken and has found nothing. It keeps its place.

        Returns
        -------
        bool
            False if *timeout* ran out. True only means *retry*: closing wakes every greenlet, too.
        """
        return self._wait(self.readers, self._transfer.last_receive, timeout, again)

    def write(
        self, attempt: Callable[[], bool], timeout: float | None = None, destination: Key = EVERY
    ) -> bool:
        """Call *attempt* until it returns True; in between, wait for the edges.

        Parameters
        ----------
        attempt : callable
            Sends without waiting. It returns True if libzmq took a message, or if there is no
            longer a reason to wait.
        timeout : float or None
            Seconds to wait at most; None waits forever.
        destination : hashable
            The destination of *attempt*, for which no other greenlet may wait. The hub may then
            call it, too, and switches into the greenlet in the same step if it returned True or
            raised. Without it, *attempt* sends to any destination, or to those in `ManyWriters.due`
            if that is not None.

        Returns
        -------
        bool
            False if *timeout* ran out.

        Notes
        -----
        If the greenlet is killed, it stops between two attempts.
        """
        deadline = Deadline(timeout)
        is_registered = False
        try:
            while not attempt():
                if self.closed:
                    return False
                if self.many is not None and destination is not EVERY and not is_registered:
                    is_registered = True
                    self.many.enter(destination, attempt)
                if not self._wait_writable(deadline.left(), destination):
                    # The last look may not have come to this one of many.
                    return is_registered and attempt()
                if is_registered and self.many is not None and self.many.has_taken(destination):
                    return True
            return True
        finally:
            if self.many is not None and is_registered:
                self.many.leave(destination)
            self.recheck()

    def notify(self, events: int) -> None:
        """Wake the greenlets that can proceed, according to *events*.

        Call this after reading ``ZMQ_EVENTS``, which has consumed the edge.
        """
        if events & _POLLIN and self.readers:
            self.hub.loop.run_callback(self.readers.wake, 1)
        if self.many is None:
            if events & _POLLOUT:
                self.wake_writers()
        elif self.many and not self.look_scheduled:
            self._look_soon()
        self.pollers.wake(events)

    def add_poller(self, poller: Pollable) -> None:
        """Wake a set that polls from now on, when its turn comes."""
        if not self.closed:
            self._start_watching()
            self.pollers.queue(poller)

    def remove_poller(self, poller: Pollable) -> None:
        """Stop waking a set; the event for which it was woken may be for the next one."""
        self.pollers.discard(poller)
        self._stop_watching()
        self.recheck()

    def wake_all(self) -> None:
        """Make every greenlet that waits now check its owner's state."""
        self.pollers.wake_all(self.hub)
        self.readers.wake_all()
        if self.writers:
            self.wake_writers()

    def wake_writers(self) -> None:
        """Make the writers that wait try again, soon."""
        if self.writers and not self._wake_scheduled:
            self.hub.loop.run_callback(self._wake_writers)
            self._wake_scheduled = True

    def _wake_writers(self) -> None:
        self._wake_scheduled = False
        self.writers.wake(len(self.writers))

    def repair(self) -> None:
        """Make all that wait retry, soon: a callback that was to wake them has been ended."""
        self._budget.repair()
        self.look_scheduled = self._wake_scheduled = False
        if self.closed:
            self.wake_all()
            return
        if self._watcher is not None and self._has_waiting() and not self._watcher.active:
            self._watcher.start(self._on_edge)  # libev stops that of a callback that has raised
        if self.many is not None:
            self.many.repair()
        self.notify(_POLLIN | _POLLOUT | _POLLERR)

    def missed_edge(self) -> bool:
        """Return whether a greenlet waits although its socket is ready and no edge is pending.

        For the watchdog. It may consume the edge, so a `recheck` has to follow.
        """
        if not self.waiting or self.look_scheduled or has_edge(self._fd):
            return False
        events = self._events()
        masks = [each.mask for each in list(self.pollers) if each.is_waiting]
        masks.append(_POLLIN if self.readers else 0)
        masks.append(_POLLOUT if self.writers and self.pollout_is_exact else 0)
        return any(events & mask for mask in masks)

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
        if self.many is not None:
            self.many.close()
        self.wake_all()

    def abandon(self) -> None:
        """Stop the inherited watcher in a forked child, without waking a greenlet.

        It is stopped by the child's loop, not here: until gevent has renewed the loop's own
        descriptor, stopping would remove the parent's registration from the shared epoll set.
        """
        self.closed = True
        if self.many is not None:
            self.many.close()
        for poller in list(self.pollers):
            poller.abandon()
        if self._watcher is not None and self.hub.loop is not None:
            self.hub.loop.run_callback(self._watcher.stop)

    def _wait_writable(self, timeout: float | None, destination: Key) -> bool:
        """Wait until a send should be tried, after one that failed and may have eaten the edge."""
        calls = self._transfer.calls
        if isinstance(self.writers, Waiters):
            events = self._read_events()
            self.notify(events)
            return bool(events & _POLLOUT) or self._wait(self.writers, calls + 1, timeout)
        if not self.writers.is_trying and not self.look_scheduled:
            self._look_soon()
        try:
            return self._wait(self.writers.queue(destination), calls, timeout)
        finally:
            self.writers.forget(destination)
            self._stop_watching()  # it was taken for one that waits

    def _wait(self, queue: Waiters, calls: int, timeout: float | None, again: bool = False) -> bool:
        """Wait in a queue; look again if more calls than that have been made."""
        if self.closed:
            return True
        self._start_watching()
        waiter: Waiter[object] = Waiter(self.hub)
        try:
            queue[waiter] = None
            # A signal handler may have closed the socket before, or consumed the edge.
            if self.closed:
                return True
            if self._transfer.calls != calls:
                self.recheck()
            # One look is the last: each look would make a writer try again, and wait again.
            look = self.recheck if timeout else None
            return queue.wait(self.hub, timeout, self._ref, look, again, waiter)
        finally:
            queue.pop(waiter, None)
            self._stop_watching()

    def _start_watching(self) -> None:
        if self._watcher is None:
            self._watcher = self.hub.loop.io(self._fd, 1, ref=self._ref)
        if not self._watcher.active:
            self._repairs.begin()
            self._watcher.start(self._on_edge)

    def _stop_watching(self) -> None:
        if self._watcher is not None and not self._has_waiting():
            self._watcher.stop()
            if self.closed:
                self._watcher.close()
                self._watcher = None

    def _has_waiting(self) -> bool:
        # Most sockets have no pollers, and the property takes 0.1 us.
        return bool(self.readers or self.writers or (self.pollers and self.pollers.queued))

    def _on_edge(self) -> None:
        if self._shared.is_crowded:
            if self._shared.may_run(self._budget):
                self._shared.run(self._budget, self._serve)
        elif (
            len(self.readers) == 1
            and not (self.pollers or self.closed)
            and (not self.writers or (self.many is not None and self.many.can_wait))
        ):
            # The only one: its retry reports as much as EVENTS would, for 2 us less, and beside
            # 1,000 peers that are full for 6 us less.
            self.edges += 1
            if self.many:
                self.many.note_use()
            next(iter(self.readers)).switch(None)
        else:
            self._serve()

    def _serve(self) -> None:
        """Resume the greenlets that may proceed after an edge."""
        self.edges += 1
        if self.closed:
            if self._watcher is not None:
                self._watcher.stop()
        elif self.writers or len(self.readers) + len(self.pollers) > 1:
            self._look_now(is_edge=True)
        elif self.readers:
            next(iter(self.readers)).switch(None)
        elif self.pollers:
            next(iter(self.pollers)).wake_now()

    def _look_soon(self) -> None:
        # A hub that was destroyed has no loop, and its greenlets wait forever.
        if self.hub.loop is not None:
            if self.many is not None:
                self.many.is_disturbed = True
            # In this order: it raises if memory runs out.
            self.hub.loop.run_callback(self._look)
            self.look_scheduled = True

    def _look(self) -> None:
        self.look_scheduled = False
        if self._shared.is_crowded:
            self._shared.run(self._budget, self._look_now)
        else:
            self._look_now()

    def _look_now(self, is_edge: bool = False) -> None:
        """Wake, in the hub, the greenlets that can proceed: the first reader, and the writers."""
        if self.closed:
            return
        if self.many:
            self.many.serve(is_edge)
            return
        events = self._read_events()
        self._wake(events)
        if events & _POLLOUT:
            self.writers.wake(len(self.writers))

    def _look_for_readers(self) -> None:
        if not self.closed:
            self._wake(self._read_events())

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

"""A simulated hub and a simulated libzmq, in which a schedule of calls is carried out."""

import contextlib
import inspect
import itertools
import logging
import os
import sys
import time
from typing import Any, ClassVar, cast

import gevent
import zmq
from gevent import GreenletExit

from gzmqsource._base.reports import Reports
from gzmqsource._socket import linger
from gzmqsource._source import neglect
from simulation import backend
from simulation.ends import End
from simulation.loop import Loop
from simulation.pipes import mailboxes

loop = Loop()
time.monotonic = loop.clock
time.thread_time = loop.cpu_clock
logging.disable()  # of what peers do wrong, which is the purpose here
Reports.interval = 0.0  # no timer outlives a schedule
vars(linger)["Report"] = End

#: Seconds by which each call on a socket moves the clock.
CALL = 1e-6


#: Calls on the sockets of one world that count as a loop without end.
PATIENCE = 20_000

#: For how many seconds the process may be stopped: less and more than any of libzmq's limits.
STALLS = (0.0003, 0.0008, 0.002, 0.02)


class Broken(AssertionError):
    """An invariant is broken."""


def end_patrols():
    """End the look for forgotten sources, which outlives them: it belongs to the hub."""
    for patrol in neglect._patrols.values():
        if patrol._timer is not None:
            patrol._timer.close()
    neglect._patrols.clear()


def check(holds, text):
    if not holds:
        raise Broken(text)


@contextlib.contextmanager
def given_up_after(seconds):
    """Let a ``gevent.Timeout`` end the block; with None, nothing does."""
    timeout = gevent.Timeout.start_new(seconds)
    try:
        yield
    except gevent.Timeout as raised:
        if raised is not timeout:
            raise
    finally:
        timeout.close()


def action(weight=1, **arguments):
    """Make a method a step of schedules: how likely it is, and the range of each argument."""

    def mark(method):
        method.weight = weight
        method.ranges = arguments
        return method

    return mark


class World:
    """What all worlds have in common: time, peers, greenlets, and accidents.

    A subclass adds what is tested. Its ``options`` are the ranges of its constructor's arguments.
    """

    options: ClassVar[dict[str, Any]] = {}

    #: Seconds within which a failed send is confirmed.
    confirmed = 0.05

    def __init__(self, delay):
        vars(loop.hub).pop("gzmqsource_slice", None)  # that of the last world
        self.context = zmq.Context()
        self.simulated = cast(Any, self.context.simulated)
        self.simulated.clock = loop.clock
        self.simulated.max_command_delay = (0.0005, 0.001, 0.003)[delay]
        self.simulated.before_call = self._before_call
        self.greenlets = []
        self.numbers = itertools.count()
        self.failures: list[str] = []
        self._accidents = []
        self._last_accident = -1.0
        self._calls = 0
        self._watched = None
        #: Since when nothing has happened but by the loop, in its time.
        self.calm_since = loop.time
        #: Whether the process was ever stopped: a turn may end, and others go first.
        self.is_slow = False
        #: Whether it never is, whatever the schedule says.
        self.is_steady = False
        loop.hub.handle_error = self._note_failure
        sys.unraisablehook = lambda raised: self.failures.append(repr(raised.exc_value))

    @classmethod
    def actions(cls):
        """Give the steps that a schedule may have."""
        members = inspect.getmembers(cls, lambda each: hasattr(each, "ranges"))
        return [member for _, member in members]

    def watch(self, socket):
        """Let accidents happen just before calls on this socket."""
        self._watched = socket

    def spawn(self, function, *arguments):
        greenlet = gevent.spawn(function, *arguments)
        self.greenlets = [each for each in self.greenlets if not each.dead]
        self.greenlets.append(greenlet)
        return greenlet

    # Steps of a schedule.

    @action(weight=6, things=range(1, 6))
    def step(self, things):
        """Let the hub run so many things: callbacks, watchers, timers."""
        loop.step(things)

    @action(weight=4)
    def settle(self):
        """Let everything happen that needs no timeout, and check what must be true then."""
        loop.step()
        end = loop.time + self.confirmed
        while (due := loop.next_due()) is not None and due < end:
            loop.time = max(loop.time, due)
            loop.step()
        self.check_rest()

    @action(seconds=(0.002, 0.012, 1.5))
    def advance(self, seconds):
        """Let the time pass."""
        loop.advance(seconds)

    @action(weight=2, seconds=(0.002, 0.02, 1.5))
    def hold_up(self, seconds):
        """Let the time pass while a greenlet keeps the hub from running."""
        if not self.is_steady:
            self.is_slow = True
            loop.time += seconds

    @action(weight=2, which=range(8))
    def kill(self, which):
        """Kill a greenlet, wherever it is."""
        alive = [each for each in self.greenlets if not each.dead]
        if alive:
            self.disturb()
            alive[which % len(alive)].kill(block=False)

    @action(weight=2)
    def reap(self):
        """Let libzmq's reaper thread do its work."""
        self.disturb()
        self.simulated.reap()

    @action(weight=2, calls=range(1, 9), seconds=STALLS)
    def stall(self, calls, seconds):
        """Let the process be stopped for a while, just before one of the next calls."""

        def pass_by():
            loop.time += seconds

        if self.is_steady:
            return
        self.is_slow = True

        self._accidents.append([calls, pass_by])

    def disturb(self):
        """Note that something happens now that is not the loop's doing."""
        self.calm_since = loop.time

    @property
    def has_accident(self):
        """Whether an accident happened just now, among the last calls."""
        return loop.time - self._last_accident < 100 * CALL

    def happen_later(self, calls, accident):
        """Let something happen just before one of the next calls on the socket."""
        self._accidents.append([calls, accident])

    # What must be true.

    def check_rest(self):
        """Check what must be true when nothing more happens by itself."""
        end_patrols()
        check(not self.failures, f"unexpected errors: {self.failures}")

    def finish(self):
        """Kill what is left, and check that the loop is empty."""
        self._accidents.clear()
        for greenlet in self.greenlets:
            greenlet.kill(block=False)
        loop.step()
        for socket in self.simulated.sockets:
            if not socket.is_closed:
                socket.close()
        self.simulated.reap()
        loop.step()
        end_patrols()
        check(not self.failures, f"unexpected errors: {self.failures}")
        check(not loop.ios, f"watchers that nobody stopped: {loop.ios}")
        check(not loop.asyncs, f"async watchers that nobody stopped: {loop.asyncs}")
        check(not loop.timers, f"timers that nobody stopped: {loop.timers}")

    def abandon(self):
        """Forget a world in which something went wrong; nothing of it may reach the next one."""
        end_patrols()
        self._accidents.clear()
        with contextlib.suppress(Exception):
            gevent.killall(self.greenlets, block=False)
            loop.step()
        loop.callbacks.clear()
        loop.timers.clear()
        loop.ios.clear()
        loop.asyncs.clear()

    @staticmethod
    def forget_sockets():
        """Let the sockets of earlier worlds be collected."""
        backend.forget_sockets()
        mailboxes.clear()

    def in_forked_child(self, function):
        """Fork, call a function in the child, and check that it raises nothing."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            text = b""
            try:
                self.simulated.before_call = _never_call
                function()
            except BaseException as error:
                text = f"{type(error).__name__}: {error}".encode()
            finally:
                os.write(writing, text)
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            text = said.read()
        os.waitpid(child, 0)
        check(not text, f"in a forked child: {text.decode()}")

    def _before_call(self, socket):
        loop.time += CALL
        loop.used += CALL
        self._calls += 1
        check(self._calls < PATIENCE, f"{PATIENCE} calls, and there is no end")
        if socket is not self._watched:
            return
        for accident in list(self._accidents):
            accident[0] -= 1
            if accident[0] <= 0 and accident in self._accidents:
                self._accidents.remove(accident)
                accident[1]()
                self._last_accident = self.calm_since = loop.time

    def _note_failure(self, context, kind, error, traceback):
        if not issubclass(kind, GreenletExit):
            self.failures.append(repr(error))


def _never_call(socket):
    raise AssertionError("a call on an inherited socket, which libzmq would never answer")

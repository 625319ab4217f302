"""A hub's loop on a clock of its own, which runs one thing at a time when it is told to."""

import contextlib
from collections import deque
from typing import Any

import gevent
from gevent._ffi.callback import callback
from gevent._hub_local import get_hub_if_exists, set_hub
from gevent.hub import Hub
from greenlet import getcurrent, greenlet

from simulation.pipes import mailboxes


class Spinning(AssertionError):
    """The loop never comes to rest."""


class Clock:
    """The time, and the CPU time: those of all processes."""

    def __init__(self):
        self.time = 0.0
        #: The seconds of CPU that calls have used.
        self.used = 0.0


class Loop:
    """What a gevent hub asks of its loop.

    As in libev, an iteration runs callbacks and then what it found when it polled, by priority:
    of the same priority, the timers that are due come before what is ready for I/O. If it is to be
    libuv, timers have no priority, and those of 0 seconds come after what is ready for I/O. The
    greenlet that makes it drives it; while that greenlet itself waits, the clock goes on by leaps
    to the next timer.
    """

    MAXPRI = 2
    default = False

    #: Things that run in a row before the loop counts as spinning.
    patience = 20_000

    #: Whether it does as libuv does.
    is_libuv = False

    def __init__(self, shared=None):
        self.shared = shared or Clock()
        #: How often it has polled, and how many things have run.
        self.iteration = self.ran = 0
        self.error_handler: Any = None
        self.callbacks: deque[callback] = deque()
        self.timers = []
        self.ios = []
        self.asyncs = []
        self.errors = []
        self._driver = getcurrent()
        self._left = 0
        self._serial = 0
        self._is_at_rest = False
        self._items = self._run_items()
        self.hub = Hub(loop=self)  # type: ignore[call-overload]  # it has what the hub uses
        set_hub(self.hub)

    @property
    def time(self):
        return self.shared.time

    @time.setter
    def time(self, time):
        self.shared.time = time

    @property
    def used(self):
        return self.shared.used

    @used.setter
    def used(self, used):
        self.shared.used = used

    def clock(self):
        """Give the time in seconds."""
        return self.time

    def cpu_clock(self):
        """Give the CPU time in seconds."""
        return self.used

    # For the driver.

    def step(self, items=None):
        """Run so many things, or until nothing is left but timers; True if nothing is left."""
        self._left = items or self.patience
        self._is_at_rest = False
        greenlet.switch(self.hub)  # gevent's own asks the greenlet whether it may wait
        if items is None and not self._is_at_rest:
            raise Spinning(f"{self.patience} things ran, and there is still more")
        return self._is_at_rest

    def advance(self, seconds):
        """Let the time pass, with all that happens meanwhile."""
        end = self.time + seconds
        self.step()
        while (due := self.next_due()) is not None and due <= end:
            self.time = max(self.time, due)
            self.step()
        self.time = max(self.time, end)

    def run_busy(self, end):
        """Run until a time that comes because what runs takes time."""
        for _ in range(self.patience):
            if self.time >= end:
                return
            if self.step(1):
                due = self.next_due()
                self.time = max(self.time, end if due is None else min(due, end))
        raise Spinning(f"{self.patience} things ran, and it is {self.time}, before {end}")

    def next_due(self):
        """Give the time of the next timer, or None."""
        return min((timer.due for timer in self.timers), default=None)

    # For the hub.

    def run(self):
        for is_at_rest in self._items:
            self.ran += not is_at_rest
            if self._left:
                self._left -= 1
                if is_at_rest or not self._left:
                    self._left = 0
                    self._is_at_rest = is_at_rest
                    greenlet.switch(self._driver)
            elif is_at_rest:
                due = self.next_due()
                if due is None:
                    return  # the driver waits for ever: the hub raises LoopExit in it
                self.time = max(self.time, due)

    def run_callback(self, function, *arguments):
        scheduled = callback(function, arguments)
        self.callbacks.append(scheduled)
        return scheduled

    run_callback_threadsafe = run_callback

    def timer(self, after, repeat=0.0, ref=True, priority=None):
        return Timer(self, after, ref, 0 if self.is_libuv else priority or 0)

    def io(self, fd, events, ref=True, priority=None):
        return Io(self, fd, events, ref)

    def async_(self, ref=True, priority=None):
        return Async(self)

    def handle_error(self, context, kind, value, traceback):
        self.error_handler.handle_error(context, kind, value, traceback)

    def update_now(self):
        """Do nothing: the clock stands still while a greenlet runs."""

    def now(self):
        return self.time

    def _run_items(self):
        """Run one thing after the other; yield whether nothing is left but timers."""
        while True:
            ran = False
            for _ in range(len(self.callbacks)):
                scheduled = self.callbacks.popleft()
                if scheduled.callback is not None:
                    function, arguments = scheduled.callback, scheduled.args
                    scheduled.callback = None
                    self._call(function, arguments)
                    scheduled.args = None
                    ran = True
                    yield False
            self.iteration += 1
            for watcher in self._poll():
                if watcher.active:
                    function, arguments = watcher.callback, watcher.args
                    watcher.fired()
                    self._call(function, arguments)
                    ran = True
                    yield False
            if not ran:
                yield True

    def _poll(self):
        """Give the watchers whose events are there, in their order."""
        if not (self.timers or self.ios or self.asyncs):
            return []
        due = [each for each in self.timers if each.due <= self.time]
        due.sort()
        ready = [each for each in self.ios if each.is_ready]
        told = [each for each in self.asyncs if each.is_sent]
        if self.is_libuv:
            late = [each for each in due if each.is_zero]
            due = [each for each in due if not each.is_zero]
            return [*due, *ready, *told, *late]
        early = [each for each in due if each.priority >= 0]
        return [*early, *ready, *told, *due[len(early) :]]

    def _call(self, function, arguments):
        try:
            function(*arguments)
        except BaseException as error:
            self.handle_error(function, type(error), error, error.__traceback__)

    def serial(self):
        self._serial += 1
        return self._serial


class Process(Loop):
    """The loop of another process: any greenlet of any process may drive it."""

    def __init__(self, shared):
        before: Any = get_hub_if_exists()
        super().__init__(shared)
        set_hub(before)
        #: Whether its hub does not run, whatever there is to do.
        self.is_stuck = False
        #: Whether it runs now, and is in a call in which others may run.
        self.is_running = False

    def step(self, items=None):
        if self.is_stuck or self.is_running or not self._has_work():
            return True
        self._driver = getcurrent()
        self.is_running = True
        try:
            with self.inside():
                return super().step(items)
        finally:
            self.is_running = False

    def spawn(self, function, *arguments):
        """Let a greenlet of this process call a function."""
        with self.inside():
            return gevent.spawn(function, *arguments)

    def _has_work(self):
        return (
            self.callbacks
            or any(each.due <= self.time for each in self.timers)
            or any(each.is_ready for each in self.ios)
            or any(each.is_sent for each in self.asyncs)
        )

    @contextlib.contextmanager
    def inside(self):
        """Let a block run as if it were a greenlet of this process."""
        before: Any = get_hub_if_exists()
        set_hub(self.hub)
        try:
            yield
        finally:
            set_hub(before)


class Watcher:
    """What all watchers have in common."""

    pending = False

    def __init__(self, loop, among):
        self._loop = loop
        self._among = among
        self.callback = self.args = None

    @property
    def active(self):
        return self in self._among

    def start(self, function, *arguments, update=None):
        self.callback, self.args = function, arguments
        if self not in self._among:
            self._among.append(self)

    def fired(self):
        """Take note that the callback is about to be called."""

    def stop(self):
        self.callback = self.args = None
        if self in self._among:
            self._among.remove(self)

    close = stop

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Timer(Watcher):
    def __init__(self, loop, after, ref, priority):
        super().__init__(loop, loop.timers)
        self.ref = ref
        self.priority = priority
        self.is_zero = not after
        self._after = after
        self.due = 0.0
        self._order = loop.serial()

    def start(self, function, *arguments, update=None):
        self.due = self._loop.time + self._after
        super().start(function, *arguments)

    def fired(self):
        self._among.remove(self)

    def __lt__(self, other):
        return (-self.priority, self.due, self._order) < (-other.priority, other.due, other._order)


class Async(Watcher):
    def __init__(self, loop):
        super().__init__(loop, loop.asyncs)
        self.is_sent = False

    def send(self):
        self.is_sent = True

    def fired(self):
        self.is_sent = False


class Io(Watcher):
    def __init__(self, loop, fd, events, ref):
        super().__init__(loop, loop.ios)
        self.fd = fd
        #: Whether it keeps the loop running; over libuv it always does.
        self._ref = ref or loop.is_libuv
        self._watched = mailboxes[fd]
        self._events = events
        assert events == 1 or self._watched.is_plain, "a ZMQ_FD is only ever readable"

    @property
    def ref(self):
        return self._ref

    @ref.setter
    def ref(self, ref):
        self._ref = ref or self._loop.is_libuv

    @property
    def is_ready(self):
        watched = self._watched
        return watched.signalled or (watched.is_plain and self._events & watched.events())

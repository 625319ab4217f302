"""A `Monitor` that ends before, with and after its socket holds up nothing of the context."""

import contextlib
import os
import sys
from typing import Any

import gevent
import pytest
import zmq
from gevent import get_hub, subprocess
from helpers import endpoint_of, in_thread, pair_of, until_reaped
from striking import Struck, at_moment, moments

from gzmqsource import Source, SourceClosed, SourceForked, green
from gzmqsource._base.threads import start_thread
from gzmqsource._socket import reports
from gzmqsource.monitor import Monitor
from gzmqsource.testing import all_blocked, in_forked_child, no_leaks, wait_until

#: How often each happens in one test.
TIMES = 10


def plain_socket(context):
    return context.socket(zmq.PUSH)


def green_socket(context):
    return green.Context(shadow=context).socket(zmq.PUSH)


def source(context):
    return Source.open(zmq.PUSH, context=context)


def raw(watched):
    return watched.socket if isinstance(watched, Source) else watched


class Closed:
    """The monitor is closed."""

    def __init__(self, watched):
        self._monitor = Monitor(watched)

    def end(self):
        self._monitor.close()


class Dropped(Closed):
    """The monitor is garbage."""

    def end(self):
        del self._monitor


class DroppedElsewhere(Closed):
    """A thread collects it."""

    def end(self):
        held = [self._monitor]
        del self._monitor
        in_thread(held.clear)


class Killed:
    """The greenlet that reads is killed, and the monitor is its own."""

    def __init__(self, watched):
        self._reading: gevent.Greenlet[..., list] = gevent.spawn(self._read, Monitor(watched))
        all_blocked()

    @staticmethod
    def _read(monitor):
        return list(monitor)

    def end(self):
        self._reading.kill()
        del self._reading


class Replaced(Closed):
    """Another monitor of the socket takes its place, which is dropped."""

    def __init__(self, watched):
        super().__init__(watched)
        Monitor(watched)

    def end(self):
        self._monitor.close()


def passes(pull, push):
    """Send a message through a context; the hub stands still until it has come."""
    push.send(b"x")
    assert pull.recv() == b"x"


@pytest.mark.parametrize("linger", [0, -1], ids=["dropping", "lingering"])
@pytest.mark.parametrize("order", ["before", "after", "long_after"])
@pytest.mark.parametrize("kind", [Closed, Dropped, DroppedElsewhere, Killed, Replaced])
@pytest.mark.parametrize("made", [plain_socket, green_socket, source])
def test_other_sockets_go_on_and_all_are_released(context, made, kind, order, linger):
    with context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        pull.rcvtimeo = 10_000
        pull.bind("tcp://127.0.0.1:*")
        push.connect(endpoint_of(pull))
        passes(pull, push)
        with no_leaks():
            for _ in range(TIMES):
                watched = made(context)
                raw(watched).linger = linger
                raw(watched).connect(endpoint_of(pull))
                ending = kind(watched)
                raw(watched).send(b"watched")
                assert pull.recv() == b"watched"
                if order == "before":
                    ending.end()
                    watched.close()
                else:
                    watched.close()
                    if order == "long_after":
                        until_reaped(context)  # its end was reported
                    ending.end()
                del ending, watched
            passes(pull, push)


@pytest.mark.parametrize("ending", ["term", "destroy"])
@pytest.mark.parametrize("made", [plain_socket, green_socket, source])
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_context_ends_although_monitors_are_open(made, ending, is_closed):
    """In the hub, which stands still meanwhile."""
    for _ in range(TIMES):
        context = zmq.Context()
        watched = made(context)
        raw(watched).bind("tcp://127.0.0.1:*")
        monitor = Monitor(watched)
        if ending == "term" or made is green_socket:  # a shadow knows its own sockets
            watched.close()
        if is_closed:
            monitor.close()
        getattr(context, ending)()
        with gevent.Timeout(10):
            list(monitor)
        monitor.close()
        watched.close()


def test_a_greenlet_that_waits_ends_with_the_monitor(context):
    with context.socket(zmq.PULL) as pull:
        monitor = Monitor(pull)
        waiting = [gevent.spawn(monitor.recv, 20) for _ in range(3)]
        all_blocked()
        monitor.close()
        for each in waiting:
            with pytest.raises(SourceClosed):
                each.get(timeout=10)


def test_a_monitor_that_was_replaced_ends_and_leaves_the_other(context):
    with context.socket(zmq.PULL) as pull:
        for _ in range(TIMES):
            first, second = Monitor(pull), Monitor(pull, zmq.EVENT_LISTENING)
            first.close()
            pull.bind("tcp://127.0.0.1:*")
            assert second.recv(timeout=10).name == "listening"
            pull.unbind(endpoint_of(pull))
            second.close()


def test_it_ends_with_its_socket_whatever_its_events(context):
    for events in (zmq.EVENT_CONNECTED, zmq.EVENT_MONITOR_STOPPED):
        socket = context.socket(zmq.PULL)
        monitor = Monitor(socket, events)
        socket.close()
        with pytest.raises(SourceClosed):
            monitor.recv(timeout=10)


def test_one_thread_reads_all_monitors_and_ends_with_the_last(context):
    def readers():
        return len(threads() - before)

    def threads():
        return set(os.listdir("/proc/self/task"))

    sockets = [context.socket(zmq.PULL) for _ in range(50)]
    wait_until(lambda: not reports._reader._running)
    before = threads()  # one that is about to end may be among them
    monitors = [Monitor(socket) for socket in sockets]
    assert readers() == 1
    for socket, monitor in zip(sockets, monitors, strict=True):
        socket.bind("tcp://127.0.0.1:*")
        assert monitor.recv(timeout=10).name == "listening"
        socket.close()
    wait_until(lambda: readers() == 0)


def test_no_second_thread_is_started_before_the_first_has_begun(context, monkeypatch):
    held: list[Any] = []
    wait_until(lambda: not reports._reader._running)
    monkeypatch.setattr(reports, "start_thread", lambda *thread: held.append(thread))
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(context.socket(zmq.PULL)) for _ in range(3)]
        monitors = [stack.enter_context(Monitor(socket)) for socket in sockets]
        [thread] = held
        start_thread(*thread)
        for socket, monitor in zip(sockets, monitors, strict=True):
            socket.bind("tcp://127.0.0.1:*")
            assert monitor.recv(timeout=10).name == "listening"


def test_a_monitor_works_after_one_for_which_there_was_no_thread(context, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    wait_until(lambda: not reports._reader._running)
    with context.socket(zmq.PULL) as socket:
        with monkeypatch.context() as patch:
            patch.setattr(reports, "start_thread", refuse)
            with pytest.raises(RuntimeError):
                Monitor(socket)
        with Monitor(socket) as monitor:
            socket.bind("tcp://127.0.0.1:*")
            assert monitor.recv(timeout=10).name == "listening"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # struck before it has a name
def test_monitors_work_after_an_exception_at_any_moment_of_another(context):
    """Of a signal handler: the thread that reads them all goes on."""

    def strike():
        raise Struck

    def works():
        with source(context) as watched, Monitor(watched) as monitor:
            watched.socket.bind("tcp://127.0.0.1:*")
            return monitor.wait_for("listening", timeout=5)

    def scenario(moment):
        has_come = True
        with source(context) as watched:
            with contextlib.suppress(Struck):
                has_come = at_moment(
                    moment, lambda: Monitor(watched).close(), strike, ["_socket/reports.py"]
                )
            assert works()
        return has_come

    moments(scenario, at_least=20, first=1)


def test_an_inherited_monitor_is_closed_in_a_forked_child_and_a_new_one_works(context):
    pull, push = pair_of(context, "tcp://127.0.0.1:*")
    monitor = Monitor(pull)

    def child():
        with pytest.raises(SourceForked):
            monitor.recv(timeout=0)
        with pytest.raises(SourceForked):
            list(monitor)
        monitor.close()
        with zmq.Context() as mine, mine.socket(zmq.PULL) as socket:
            own = Monitor(socket)
            socket.bind("tcp://127.0.0.1:*")
            assert own.recv(timeout=5).name == "listening"
            own.close()

    in_forked_child(child)
    pull.socket.bind("tcp://127.0.0.1:*")
    assert monitor.wait_for("listening", timeout=10)
    push.close()
    pull.close()


PROGRAM = """
import sys, gevent, zmq
from gzmqsource import Source
from gzmqsource.monitor import Monitor
pull = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*")
push = Source.open(zmq.PUSH, connect=pull.socket.LAST_ENDPOINT.decode())
monitors = [Monitor(pull), Monitor(push)]
reading = gevent.spawn(list, monitors[0])
push.send(b"x")
pull.recv(timeout=10)
"""

ENDS = {
    "at once": "",
    "with closed sockets": "push.close(); pull.close()",
    "with closed monitors": "[each.close() for each in monitors]",
    "with a context that was ended": "push.close(); pull.close(); zmq.Context.instance().term()",
    "with sys.exit in a greenlet": "gevent.spawn(sys.exit, 0).join()",
    "in an atexit function": "import atexit; atexit.register(zmq.Context.instance().destroy, 0)",
    "with a hub that was destroyed": "gevent.get_hub().destroy(); push = pull = None",
}


@pytest.mark.once
@pytest.mark.processes
@pytest.mark.parametrize("end", list(ENDS))
def test_a_process_ends_whatever_is_open(end):
    if "destroyed" in end and "libuv" in type(get_hub().loop).__module__:
        pytest.skip("gevent cannot destroy a libuv hub in which an I/O watcher is started")
    program = PROGRAM + ENDS[end]
    ended = subprocess.run([sys.executable, "-c", program], timeout=20, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()

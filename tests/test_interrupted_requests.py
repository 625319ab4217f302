"""An exception of a signal handler in what carries requests: all of it goes on."""

import contextlib
import gc
import sys
from typing import Any

import gevent
import pytest
import zmq
from asking import responder_of
from brokering import ScriptedBroker, ScriptedWorker, asking, broker_of
from gevent.hub import get_hub
from gevent.pool import Pool
from helpers import endpoint_of, free_ports, unique_inproc, until_reaped
from requesting import echo, ignore, requester_of, server_of
from striking import Strike, Struck, after_calls, moments

from gzmqsource._base.lasting import Lasting
from gzmqsource._socket.hub_socket import HubSocket
from gzmqsource.broker._back import Back
from gzmqsource.broker._watch import Watch
from gzmqsource.errors import SourceClosed
from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester, RequestTimeout, Responder, _quick
from gzmqsource.workers._asking import BaseRequester
from gzmqsource.workers._bound import BoundLink
from gzmqsource.workers._dispatcher import Dispatcher
from gzmqsource.workers._holds import Holds
from gzmqsource.workers._link import Link
from gzmqsource.workers._losses import Losses
from gzmqsource.workers._membership import Membership
from gzmqsource.workers._places import Spawning
from gzmqsource.workers._retries import Pace
from gzmqsource.workers._targets import Targets

if "libuv" in type(get_hub().loop).__module__:
    pytest.skip(
        "gevent aborts if a callback raises that has closed its watcher", allow_module_level=True
    )
pytestmark = [
    pytest.mark.once,
    # Each scenario binds a server to the address of the one before.
    pytest.mark.usefixtures("long_release"),
    # A source that is interrupted while it is made is closed when Python deletes it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: What a request goes through.
PACKAGES = (
    "/gzmqsource/workers/",
    "/gzmqsource/broker/",
    "/gzmqsource/_base/lasting",
    "/gzmqsource/monitor",
)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Let all that goes on do so soon, and the hub report nothing."""
    monkeypatch.setattr(get_hub(), "handle_error", lambda *_: None)
    monkeypatch.setattr(Lasting, "pause", 0.001)
    monkeypatch.setattr(Pace, "first", 0.001)
    monkeypatch.setattr(Pace, "growth", 1e9)


def struck_in(monkeypatch, cls, name, scenario, at_least, step=1, packages=PACKAGES):
    """Run a scenario for each moment of a method, in which the first call of it is struck."""
    whole = getattr(cls, name)

    def struck(moment):
        strike = Strike(moment, packages=packages)
        with monkeypatch.context() as patch:
            patch.setattr(cls, name, lambda *arguments: strike.around(whole)(*arguments))
            with contextlib.suppress(Struck):  # at the end of its block
                scenario()
        return strike.place

    moments(struck, at_least, step=step)
    gc.collect()  # the sources that were interrupted while they were made


def struck_in_greenlet(monkeypatch, cls, name, scenario, at_least, step=1, packages=PACKAGES):
    """Run a scenario for each moment of the method of a greenlet, the first of which is struck."""
    whole = getattr(cls, name)

    def struck(moment):
        greenlets: list[Any] = []
        left = moment

        def trace(frame, event, _):
            nonlocal left
            if gevent.getcurrent() is not greenlets[0] or not is_in(packages, frame):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and frame.f_lasti in after_calls(frame.f_code):
                left -= 1
                if not left:
                    raise Struck
            return trace

        def run(*arguments):
            greenlets.append(gevent.getcurrent())
            if len(greenlets) > 1:
                return whole(*arguments)
            sys.settrace(trace)
            try:
                return whole(*arguments)
            finally:
                sys.settrace(None)

        with monkeypatch.context() as patch:
            patch.setattr(cls, name, run)
            scenario()
        sys.settrace(None)
        return left <= 0

    moments(struck, at_least, first=1, step=step)
    gc.collect()


def is_in(packages, frame):
    return any(package in frame.f_code.co_filename for package in packages)


def free_address():
    """Return an endpoint to which nothing is bound."""
    (port,) = free_ports(1)
    return f"tcp://127.0.0.1:{port}"


def asked(requester):
    """Make a request, which is sent again if its server is lost."""
    return requester.request(b"x", timeout=5, retries=9) == [b"x"]


def test_a_server_that_restarts_is_used_again_although_a_signal_interrupts(monkeypatch, context):
    address = free_address()

    def scenario():
        with requester_of(address, context) as requester:
            for _ in range(2):
                until_reaped(context)
                with server_of(context, echo, endpoint=address):
                    assert asked(requester)
            assert requester._servers._opening.pace.attempted <= 1

    struck_in(monkeypatch, Link, "_run", scenario, 100, step=7)


def test_a_lost_connection_within_the_process_is_renewed_although_a_signal_interrupts(
    monkeypatch, context
):
    with server_of(context, echo, endpoint=unique_inproc()) as server:

        def scenario():
            with requester_of(server, context) as requester:
                (connection,) = requester._dispatcher.connections
                for _ in range(2):
                    assert asked(requester)
                    connection.link.lose()
                assert asked(requester)

        struck_in(monkeypatch, Link, "_run", scenario, 20, step=5)


def ended(calls):
    """Wait until each call has ended, and return the errors of those that had no reply.

    An exception while libzmq takes a request that has waited is the request's error.
    """
    gevent.wait(calls, timeout=5)
    assert all(call.ready() for call in calls)
    return [call.exception for call in calls if type(call.exception) is not Struck]


def waits_for_a_server(context, address, requester):
    calls = [requester.submit(b"x") for _ in range(3)]
    with server_of(context, echo, endpoint=address):
        assert not any(ended(calls))
        assert asked(requester)


def goes_back_to_its_server(context, address, requester):
    with server_of(context, ignore, endpoint=address):
        calls = [requester.submit(b"x", retries=1) for _ in range(3)]
        wait_until(lambda: requester.stats().waiting == 0)
    (connection,) = requester._dispatcher.connections
    wait_until(lambda: len(connection.returning) == len(calls))
    until_reaped(context)
    with server_of(context, echo, endpoint=address):
        assert not any(ended(calls))
        assert asked(requester)


def has_lost_its_server(context, address, requester):
    with server_of(context, ignore, endpoint=address):
        calls = [requester.submit(b"x", retries=number % 2) for number in range(4)]
        wait_until(lambda: requester.stats().waiting == 0)
    until_reaped(context)
    with server_of(context, echo, endpoint=address):
        assert {type(error) for error in ended(calls)} <= {PeerLost, type(None)}
        assert asked(requester)


def is_held_back(context, address, requester):
    call = requester.submit(b"x")
    del requester._dispatcher.fresh[call.key]
    requester._dispatcher.held.hold(call, 0.001)
    with server_of(context, echo, endpoint=address):
        assert not any(ended([call]))


def waits_for_room(context, address, requester):
    with server_of(context, echo, endpoint=address):
        asking = [gevent.spawn(requester.request, b"x", timeout=5) for _ in range(3)]
        gevent.joinall(asking)
        assert [each.value for each in asking] == [[b"x"]] * 3


def has_a_deadline(context, address, requester):
    calls = [requester.submit(b"x", timeout=0.001) for _ in range(3)]
    assert {type(error) for error in ended(calls)} == {RequestTimeout}


def is_closed(context, address, requester):
    calls = [requester.submit(b"x") for _ in range(3)]
    while not requester.closed:  # it was interrupted before it had begun
        with contextlib.suppress(Struck):
            requester.close()
    assert {type(error) for error in ended(calls)} == {SourceClosed}
    wait_until(lambda: not requester.endpoints())


@pytest.mark.parametrize(
    ("cls", "name", "scenario", "at_least"),
    [
        (Dispatcher, "_send_waiting", waits_for_a_server, 20),
        (Dispatcher, "_send_back", goes_back_to_its_server, 20),
        (Losses, "_run", has_lost_its_server, 20),
        (Losses, "add", has_lost_its_server, 5),
        (Holds, "_ended", is_held_back, 5),
        (Dispatcher, "_let_in", waits_for_room, 5),
        (Dispatcher, "answered", waits_for_a_server, 5),
        (BaseRequester, "_expire", has_a_deadline, 5),
        (BaseRequester, "_end", is_closed, 20),
        (BaseRequester, "_fail_all", is_closed, 20),
    ],
)
def test_each_request_ends_although_a_signal_interrupts(
    monkeypatch, context, cls, name, scenario, at_least
):
    address = free_address()
    if name == "answered":  # the steps in C are not that method, and nothing comes in between
        monkeypatch.setattr(_quick, "_native", None)

    def ask():
        room = {"max_outstanding": 1} if scenario is waits_for_room else {}
        with requester_of(address, context, **room) as requester:
            scenario(context, address, requester)
            wait_until(lambda: not requester._dispatcher.admitted)
            assert not requester._dispatcher.bytes

    struck_in(monkeypatch, cls, name, ask, at_least, step=2)


def test_a_bound_requester_knows_its_peers_although_a_signal_interrupts(monkeypatch, context):
    def scenario():
        with Requester.open(bind="tcp://127.0.0.1:*", context=context) as requester:
            (connection,) = requester._dispatcher.connections
            address = endpoint_of(connection.link.source)
            for _ in range(2):
                with server_of(context, echo, kind=zmq.REP, endpoint=(), connect=address):
                    assert asked(requester)
                wait_until(lambda: connection.snapshot().state == "connecting")

    struck_in_greenlet(monkeypatch, BoundLink, "_run", scenario, 20, step=3)


@pytest.mark.parametrize(("name", "every", "most"), [("_run", 0.001, 3), ("_look_up", 60, 0)])
def test_names_are_looked_up_although_a_signal_interrupts(monkeypatch, context, name, every, most):
    monkeypatch.setattr(Targets, "min_pause", 0.001)
    with server_of(context, echo) as server:

        def scenario():
            looks = []

            def resolve(name):
                looks.append(name)
                return [endpoint_of(server)]

            options = {"resolve": resolve, "resolve_every": every}
            with requester_of("tcp://servers:1", context, **options) as requester:
                wait_until(lambda: len(looks) > most)
                assert asked(requester)

        struck_in_greenlet(monkeypatch, Targets, name, scenario, 10, step=3)


def test_a_worker_goes_on_reporting_although_a_signal_interrupts(monkeypatch, context):
    def scenario():
        with ScriptedBroker(context) as broker:
            back = endpoint_of(broker.source)
            with Responder.join(back, list, context=context, dead_after=0.02) as worker:
                worker.start()
                wait_until(lambda: len(broker.joins()) > 2)

    struck_in_greenlet(monkeypatch, Membership, "_run", scenario, 50, step=17)


def gives_up_a_silent_worker(context):
    with (
        broker_of(context, dead_after=0.02) as broker,
        asking(broker, dead_after=20) as requester,
        ScriptedWorker(broker, 0) as worker,
    ):
        call = requester.submit(b"x", timeout=5)
        wait_until(lambda: broker.stats().waiting)
        worker.join(1, left=20)
        assert [type(error) for error in ended([call])] == [PeerLost]


def gives_up_a_worker_that_is_gone(context):
    """The broker learns of it from libzmq, at one of its next ticks: the worker is not silent."""
    with (
        broker_of(context, dead_after=2) as broker,
        asking(broker, dead_after=20) as requester,
    ):
        with ScriptedWorker(broker, 0) as worker:
            worker.join(1, left=60_000)
            call = requester.submit(b"x", timeout=5)
            worker.next_request()
        assert [type(error) for error in ended([call])] == [PeerLost]


@pytest.mark.parametrize(
    ("cls", "name", "scenario", "step"),
    [
        (Watch, "_run", gives_up_a_silent_worker, 7),
        (Watch, "_hear_ends", gives_up_a_worker_that_is_gone, 1),
        (Back, "_forget_gone", gives_up_a_worker_that_is_gone, 5),
    ],
)
def test_a_broker_gives_up_workers_although_a_signal_interrupts(
    monkeypatch, context, cls, name, scenario, step
):
    packages = "/broker/_back", "/broker/_watch", "/gzmqsource/_base/lasting"
    struck_in_greenlet(
        monkeypatch, cls, name, lambda: scenario(context), 10, step=step, packages=packages
    )


def test_requests_are_handled_in_new_greenlets_although_a_signal_interrupts(monkeypatch, context):
    whole, begun = Spawning._feed, []

    def feed(places):
        begun.append(places)
        if len(begun) == 1:
            raise Struck
        whole(places)

    monkeypatch.setattr(Spawning, "_feed", feed)
    with (
        responder_of(context, list, spawn=Pool(2)) as responder,
        requester_of(responder.source, context) as requester,
    ):
        assert asked(requester)


def test_a_request_that_has_waited_ends_if_a_signal_interrupts_its_send(monkeypatch, context):
    address = free_address()

    def scenario():
        with requester_of(address, context) as requester:
            waits_for_a_server(context, address, requester)

    packages = ("/gzmqsource/_source/",)
    # A signal handler cannot interrupt a shortcut.
    monkeypatch.setattr(HubSocket, "allow_shortcuts", lambda socket, backlog: None)
    struck_in(monkeypatch, Dispatcher, "_send_waiting", scenario, 2, packages=packages)

"""Stopping: in phases, under one deadline, without losing anything."""

import signal
import subprocess
import time

import gevent
import pytest
import zmq
from gevent.event import Event
from gevent.exceptions import BlockingSwitchOutError
from gevent.pool import Pool
from helpers import (
    closing,
    endpoint_of,
    in_the_hub,
    is_readable,
    line_of,
    pair_of,
    python_process,
)

from gzmqsource import Source, SourceBroken, SourceClosed
from gzmqsource._source.puller import Puller
from gzmqsource.testing import all_blocked, wait_until


@pytest.mark.parametrize("spawn", [None, 1, 50, gevent.spawn, gevent.spawn_raw])
def test_what_was_read_is_answered_before_stop_returns(context, endpoint, spawn):
    def handle(message):
        gevent.sleep(0.002)
        server.send(message)

    server = Source.open(zmq.ROUTER, handle, bind=endpoint, context=context, spawn=spawn)
    client = Source.open(zmq.DEALER, connect=endpoint_of(server), context=context, linger=0)
    with closing(server, client):
        server.start()
        for number in range(100):
            client.send(b"%d" % number)
        wait_until(lambda: server.stats().received > 10)
        assert server.stop(10) == []
        stats = server.stats()
        assert stats.sent == stats.received
        assert stats.dropped == {}
        assert len([client.recv(timeout=5) for _ in range(stats.sent)]) > 10


def test_unsent_messages_are_returned_whole_and_in_order(context):
    sender = Source.open(zmq.PUSH, connect="inproc://nobody", context=context, linger=0, sndhwm=1)
    with closing(sender):
        for number in range(10):
            sender.send([b"%d" % number, b"tail"])
        sent = sender.stats().sent
        assert sender.stop(0.05) == [[b"%d" % n, b"tail"] for n in range(sent, 10)]
        assert sender.closed


def test_a_handler_over_the_deadline_is_killed(context):
    ended = []

    def handle(_message):
        try:
            gevent.sleep(60)
        finally:
            ended.append(True)

    server = Source.open(zmq.PULL, handle, bind="inproc://a", context=context, spawn=4)
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        server.start()
        for _ in range(4):
            client.send(b"x")
        wait_until(lambda: server.stats().received == 4)
        all_blocked()
        begun = time.monotonic()
        with gevent.Timeout(20):
            assert server.stop(0.1) == []
        assert time.monotonic() - begun > 0.09
        all_blocked()
        assert len(ended) == 4
        assert server.stats().dropped == {"killed": 4}


@pytest.mark.parametrize(
    "spawn", [None, 1, 2, Pool(1), gevent.spawn], ids=["None", "1", "2", "Pool(1)", "gevent.spawn"]
)
def test_a_handler_may_stop_its_own_source(context, spawn):
    handled = []

    def handle(message):
        handled.append(message)
        if message == [b"quit"]:
            assert server.stop(5) == []

    server = Source.open(zmq.PULL, handle, bind="inproc://a", context=context, spawn=spawn)
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context, linger=0)
    with closing(server, client):
        server.start()
        client.send(b"work")
        client.send(b"quit")
        server.serve_forever()
        assert handled == [[b"work"], [b"quit"]]
        assert server.closed
        assert server.stats().dropped == {}


def test_stopping_twice_at_once_and_once_more_is_one_stop(context):
    receiver, sender = pair_of(context, "inproc://a")
    with closing(receiver, sender):
        sender.send(b"x")
        stops = [gevent.spawn(sender.stop, 5) for _ in range(3)]
        gevent.joinall(stops, timeout=10, raise_error=True)
        assert [stop.value for stop in stops] == [[], [], []]
        assert sender.stop() == []
        assert receiver.recv(timeout=5) == [b"x"]


@pytest.mark.parametrize("spawn", [None, 5, gevent.spawn], ids=["one", "int", "spawn"])
def test_a_callback_of_the_hub_that_would_have_to_wait_changes_nothing(context, spawn):
    handled = []
    may_end = Event()

    def handle(message):
        may_end.wait()
        handled.append(message)

    receiver = Source.open(zmq.PULL, handle, bind="inproc://a", spawn=spawn, context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(receiver, sender):
        receiver.start()
        for number in range(20):
            sender.send(b"%d" % number)
        all_blocked()
        with pytest.raises(BlockingSwitchOutError, match="its stop has to wait"):
            in_the_hub(receiver.stop)
        assert receiver.started
        stopping = gevent.spawn(receiver.stop, 20)
        all_blocked()
        with pytest.raises(BlockingSwitchOutError):
            in_the_hub(receiver.stop)
        may_end.set()
        assert stopping.get(timeout=20) == []
        assert len(handled) == 20
        assert receiver.stats().dropped == {}


def test_a_callback_of_the_hub_stops_a_source_that_need_not_wait(context):
    source = Source.open(zmq.PULL, print, bind="inproc://a", context=context)
    with closing(source):
        source.start()
        all_blocked()
        gevent.get_hub().loop.run_callback(source.stop)
        wait_until(lambda: source.closed)


def test_leaving_the_block_stops_and_then_nothing_can_be_sent(context):
    with Source.open(zmq.PUSH, bind="inproc://a", context=context, linger=0) as sender:
        assert not sender.closed
    assert sender.closed
    for call in (
        lambda: sender.send(b"x"),
        sender.flush,
        sender.start,
        sender.pause,
        sender.sender,
        lambda: sender.socket,
    ):
        with pytest.raises(SourceClosed, match="<Source PUSH inproc://a closed> is closed"):
            call()


def test_serve_forever_ends_with_stop_and_starts_by_itself(context):
    handled: list[list[bytes]] = []
    server = Source.open(zmq.PULL, handled.append, bind="inproc://a", context=context)
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        serving = gevent.spawn(server.serve_forever)
        client.send(b"x")
        wait_until(lambda: handled)
        server.stop()
        serving.get(timeout=5)


def test_a_killed_server_stops_and_answers_what_it_has_read(context):
    go_on = Event()
    handled = []

    def handle(message):
        go_on.wait()
        handled.append(message)

    server = Source.open(zmq.PULL, handle, bind="inproc://a", context=context)
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context, linger=0)
    with closing(server, client):
        serving = gevent.spawn(server.serve_forever, 5)
        client.send(b"x")
        wait_until(lambda: server.stats().received)
        serving.kill(block=False)
        all_blocked()
        go_on.set()
        serving.join(timeout=5)
        assert handled == [[b"x"]]
        assert server.closed


AFTER_CTRL_C = """
import signal
import gevent
import zmq
from gevent.event import Event
from gzmqsource import Source
from gzmqsource.testing import wait_until

signal.signal(signal.SIGINT, signal.default_int_handler)


class Server(Source):
    def stop(self, *arguments):
        interrupted.set()
        return super().stop(*arguments)


def handle(message):
    gevent.spawn(print, "begun", flush=True)  # once this greenlet waits, or it is interrupted
    interrupted.wait(20)
    wait_until(lambda: "draining" in repr(server))
    print("handled", flush=True)


interrupted = Event()
server = Server.open(zmq.PULL, handle, bind="inproc://a")
with Source.open(zmq.PUSH, connect="inproc://a") as client:
    client.send(b"x")
try:
    server.serve_forever()
except KeyboardInterrupt:
    print("stopped" if server.closed else "left", flush=True)
"""


@pytest.mark.processes
def test_ctrl_c_stops_what_serves_for_ever():
    with python_process(AFTER_CTRL_C, stderr=subprocess.DEVNULL) as process:
        assert line_of(process) == "begun"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().split() == ["handled", "stopped"]


def test_serve_forever_raises_when_the_context_ends():
    context = zmq.Context()
    server = Source.open(
        zmq.PULL, print, bind="inproc://a", context=context, on_error=lambda *_: None
    )
    serving = gevent.spawn(server.serve_forever)
    all_blocked()
    context._warn_destroy_close = False
    context.destroy(0)
    with pytest.raises(SourceBroken):
        serving.get(timeout=5)


def test_close_drops_and_counts_what_is_in_hand_and_queued(context):
    handling = Event()

    def handle(_message):
        handling.set()
        gevent.sleep(60)

    class Eager(Source):
        def start(self):
            super().start()
            assert self._receiver is not None
            self._receiver._intake.batch = 8

    server = Eager.open(zmq.PULL, handle, bind="inproc://a", context=context)
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    full = Source.open(zmq.PUSH, connect="inproc://nobody", context=context, linger=0, sndhwm=1)
    with closing(server, client, full):
        for _ in range(5):
            client.send(b"x")
        wait_until(lambda: is_readable(server.socket))
        server.start()
        handling.wait(timeout=5)
        in_hand = server.stats().in_hand
        server.close()
        assert server.stats().dropped == ({"unhandled": in_hand} if in_hand else {})
        for _ in range(5):
            full.send(b"x")
        queued = full.stats().outbox_depth
        full.close()
        assert full.stats().dropped == {"unsent": queued}


def linger_source(context, seconds):
    """Make a source whose message libzmq holds, for so long once it is closed."""
    source = Source.open(
        zmq.PUSH, connect="tcp://127.0.0.1:1", context=context, linger=int(seconds * 1000)
    )
    source.send(b"nobody is there")
    return source


@pytest.mark.parametrize("how", ["killed", "timed out"])
def test_a_stop_that_did_not_wait_to_the_end_does_not_hold_up_later_ones(context, how):
    first, second = linger_source(context, 0.2), linger_source(context, 0.01)
    if how == "killed":
        stopping = gevent.spawn(first.stop, 5)
        all_blocked()
        stopping.kill()
    else:
        first.stop(timeout=0.05)
    gevent.sleep(0.3)  # libzmq has given up what the first held
    with gevent.Timeout(20):
        second.stop(timeout=60)


def test_a_stop_notices_that_a_greenlet_with_a_message_has_ended(context, monkeypatch):
    class Patient(Source):
        quiet = 0.01
        stop_timeout = 3600.0

    has_takers = Puller.has_takers
    waits_for_it = Event()

    def look(puller):
        found = has_takers(puller)
        if found:
            waits_for_it.set()
        return found

    def pull():
        receiver.recv()
        waits_for_it.wait()  # which is set right before the stop waits

    monkeypatch.setattr(Puller, "has_takers", look)
    receiver = Patient.open(zmq.PULL, bind="inproc://a", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(receiver, sender):
        gevent.spawn(pull)
        all_blocked()
        receiver.pause()
        sender.send(b"x")
        receiver.resume()
        with gevent.Timeout(20):
            assert receiver.stop() == []
        assert waits_for_it.is_set()

"""What a stop receives first, and what it counts: nothing is lost in silence."""

import logging
import time

import gevent
import pytest
import zmq
from gevent.event import Event
from gevent.monkey import get_original
from gevent.pool import Pool
from helpers import closing, endpoint_of, is_readable, pair_of

from gzmqsource import Source, SourceClosed
from gzmqsource._source import stopping as phases
from gzmqsource.monitor import Monitor
from gzmqsource.testing import all_blocked, wait_until

select = get_original("select", "select")

#: Seconds that no test takes: a stop that waits for them is stuck.
AGES = 3600


class Patient(Source):
    """A source to which it never seems quiet."""

    quiet = AGES
    stop_timeout = 2 * AGES


def stopped(source, **options):
    """Stop a source that need not wait, and return what it returns."""
    with gevent.Timeout(20):
        return source.stop(**options)


def send_numbers(sender, count):
    for number in range(count):
        sender.send(b"%d" % number)


@pytest.mark.parametrize("mark", [1, 1000])
@pytest.mark.parametrize("transport", ["tcp", "ipc"], indirect=True)
def test_a_restart_in_a_stream_loses_nothing(context, endpoint, mark, monkeypatch):
    monkeypatch.setattr(Source, "quiet", 1.0)  # libzmq's thread may have no time for shorter ones
    handled = []

    def handle(message):
        gevent.sleep(0.001)
        handled.append(int(message[0]))

    first = Source.open(zmq.PULL, handle, bind=endpoint, context=context, spawn=10, rcvhwm=mark)
    where = endpoint_of(first)
    sender = Source.open(zmq.PUSH, connect=where, context=context, sndhwm=mark, linger=0)
    with closing(first, sender):
        first.start()
        sending = gevent.spawn(send_numbers, sender, 500)
        wait_until(lambda: len(handled) > 20)
        assert first.stop(20) == []
        assert first.stats().dropped == {}
        with closing(Source.open(zmq.PULL, handle, bind=where, context=context)) as (second,):
            second.start()
            sending.get(timeout=20)
            wait_until(lambda: len(handled) == 500)
        assert sorted(handled) == list(range(500))


@pytest.mark.parametrize("transport", ["tcp", "ipc"], indirect=True)
@pytest.mark.parametrize("kind", [zmq.PULL, zmq.ROUTER])
def test_a_stream_without_an_end_does_not_hold_up_a_stop(context, endpoint, kind):
    handled: list[list[bytes]] = []
    peer = zmq.PUSH if kind == zmq.PULL else zmq.DEALER
    source = Source.open(kind, handled.append, bind=endpoint, context=context, linger=0)
    sender = Source.open(peer, connect=endpoint_of(source), context=context, linger=0)

    def send_for_ever():
        while True:
            sender.send(b"x")
            gevent.sleep(0)

    with closing(source, sender):
        source.start()
        sending = gevent.spawn(send_for_ever)
        wait_until(lambda: handled)
        begun = time.monotonic()
        stopped(source, timeout=0.4)
        assert time.monotonic() - begun >= 0.2
        assert source.closed
        sending.kill()
        handling = len(handled)
        all_blocked()
        assert len(handled) == handling


@pytest.mark.parametrize("spawn", [None, 2, Pool(2)], ids=["None", "2", "Pool(2)"])
def test_what_no_handler_gets_is_counted_and_logged_once(context, spawn, caplog):
    source = Source.open(
        zmq.PULL,
        lambda _message: gevent.sleep(AGES),
        bind="inproc://a",
        context=context,
        spawn=spawn,
    )
    with closing(source, Source.open(zmq.PUSH, connect="inproc://a", context=context)) as (_, push):
        source.start()
        send_numbers(push, 20)
        all_blocked()
        stopped(source, timeout=0.1)
        dropped = source.stats().dropped
        assert dropped["unread"] > 0
        assert sum(dropped.values()) == 20
        assert dropped["killed"] == (1 if spawn is None else 2)
        (record,) = [each for each in caplog.records if each.name == "gzmqsource.source"]
        assert record.levelno == logging.WARNING
        assert f"{dropped['unread']} unread" in record.message
        assert f"{dropped['killed']} killed" in record.message
        assert "<Source PULL inproc://a closed>" in record.message


def paused(source):
    source.start()
    source.pause()


def never_started(_source):
    pass


@pytest.mark.parametrize("prepare", [paused, never_started])
def test_a_source_that_does_not_receive_counts_what_is_there(context, prepare):
    source = Patient.open(zmq.PULL, print, bind="tcp://127.0.0.1:*", context=context)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(source), context=context)
    with closing(source, sender):
        prepare(source)
        sender.send(b"x")
        wait_until(lambda: is_readable(source.socket))
        stopped(source)
        assert source.stats().dropped == {"unread": 1}


def test_without_a_drain_what_is_there_is_counted(context):
    source = Patient.open(zmq.PULL, print, bind="tcp://127.0.0.1:*", context=context)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(source), context=context)
    with closing(source, sender):
        sender.send(b"x")
        wait_until(lambda: is_readable(source.socket))
        source.start()
        stopped(source, drain=False)
        assert source.stats().dropped == {"unread": 1}


def test_a_pulled_source_drains_into_those_that_pull_it(context):
    got: list[int] = []

    def pull():
        for message in receiver:
            gevent.sleep(0.001)
            got.append(int(message[0]))

    receiver, sender = pair_of(context, "tcp://127.0.0.1:*")
    with closing(receiver, sender):
        pulling = gevent.spawn(pull)
        send_numbers(sender, 200)
        wait_until(lambda: got)
        assert receiver.stop(20) == []
        pulling.get(timeout=5)
        assert got == list(range(200))
        assert receiver.stats().dropped == {}


def test_a_taker_that_is_slower_than_the_quiet_time_is_waited_for(context):
    got: list[list[bytes]] = []

    class Hasty(Source):
        quiet = 0.01

    def pull():
        for message in receiver:
            gevent.sleep(0.05)
            got.append(message)

    receiver = Hasty.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(receiver), context=context)
    with closing(receiver, sender):
        gevent.spawn(pull)
        all_blocked()
        receiver.pause()
        send_numbers(sender, 5)
        wait_until(lambda: is_readable(receiver.socket))
        receiver.resume()
        receiver.stop(20)
        assert receiver.stats().received == 5


def test_a_reader_that_is_busy_gets_what_is_there_although_nothing_is_on_its_way(context):
    got: list[int] = []
    may_go_on = Event()

    def pull():
        for message in receiver:
            may_go_on.wait()
            got.append(int(message[0]))

    receiver = Patient.open(zmq.PULL, bind="inproc://a", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(receiver, sender):
        gevent.spawn(pull)
        all_blocked()
        send_numbers(sender, 5)
        all_blocked()
        stopping = gevent.spawn(stopped, receiver)
        all_blocked()
        may_go_on.set()
        stopping.get()
        assert got == list(range(5))
        assert receiver.stats().dropped == {}


def test_a_pulled_source_waits_for_nobody_if_its_only_reader_stops_it(context):
    receiver = Patient.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(receiver), context=context)
    with closing(receiver, sender):
        send_numbers(sender, 2)
        assert receiver.recv(timeout=5) == [b"0"]
        wait_until(lambda: is_readable(receiver.socket))
        stopped(receiver)
        assert receiver.stats().dropped == {"unread": 1}


def idle(source):
    """Let a source have waited for ages."""
    all_blocked()
    source._core.lull.since -= AGES


@pytest.mark.parametrize("transport", ["tcp", "ipc"], indirect=True)
def test_a_source_that_was_quiet_stops_at_once(context, endpoint):
    source = Patient.open(zmq.PULL, print, bind=endpoint, context=context)
    with closing(source, Source.open(zmq.PUSH, connect=endpoint_of(source), context=context)):
        source.start()
        idle(source)
        stopped(source)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (zmq.PULL, {}),
        (zmq.PULL, {"bind": "inproc://a"}),
        (zmq.SUB, {"bind": "tcp://127.0.0.1:*", "subscribe": ""}),
        (zmq.XPUB, {"bind": "tcp://127.0.0.1:*"}),
    ],
    ids=["no endpoint", "inproc", "SUB", "XPUB"],
)
def test_a_source_that_nothing_is_on_its_way_to_stops_at_once(context, kind, options):
    with closing(Patient.open(kind, print, context=context, **options)) as (source,):
        source.start()
        stopped(source)


def test_an_idle_peer_within_the_process_does_not_hold_up_a_source_that_sent_nothing(
    context, caplog
):
    source = Patient.open(zmq.DEALER, bind=["tcp://127.0.0.1:*", "inproc://a"], context=context)
    with closing(source, Source.open(zmq.DEALER, connect="inproc://a", context=context)):
        stopped(source, drain=False)
        assert not caplog.records


def test_an_xpub_does_not_count_subscriptions(context):
    source = Source.open(zmq.XPUB, bind="inproc://a", context=context)
    with closing(source, Source.open(zmq.SUB, connect="inproc://a", subscribe="", context=context)):
        wait_until(lambda: is_readable(source.socket))
        stopped(source)
        assert source.stats().dropped == {}


def test_what_came_while_the_hub_was_late_is_handled(context):
    handled: list[list[bytes]] = []
    source = Patient.open(zmq.DEALER, handled.append, bind="tcp://127.0.0.1:*", context=context)
    sender = Source.open(zmq.DEALER, connect=endpoint_of(source), context=context)
    with closing(source, sender):
        source.start()
        descriptor = source.socket.FD
        sender.send(b"first")
        wait_until(lambda: handled)
        idle(source)
        sender.send(b"last")
        assert select([descriptor], [], [], 20)[0]  # the hub does not run meanwhile
        stopping = gevent.spawn(source.stop)
        wait_until(lambda: len(handled) == 2)
        idle(source)
        source._core.lull.end()
        stopping.get(timeout=5)
        assert source.stats().dropped == {}


def test_a_stop_that_was_killed_while_it_received_can_be_repeated(context):
    gate, handled = Event(), []

    def handle(message):
        gate.wait()
        handled.append(message)

    source = Patient.open(zmq.PULL, handle, bind="inproc://a", context=context)
    with closing(source, Source.open(zmq.PUSH, connect="inproc://a", context=context)) as (_, push):
        source.start()
        send_numbers(push, 10)
        all_blocked()
        stopping = gevent.spawn(source.stop)
        all_blocked()
        stopping.kill()
        assert not source.closed
        stopping = gevent.spawn(source.stop)
        all_blocked()
        gate.set()
        assert stopping.get(timeout=20) == []
        assert len(handled) == 10
        assert source.stats().dropped == {}


@pytest.mark.parametrize("spawn", [1, 2, Pool(2)], ids=["1", "2", "Pool(2)"])
def test_handlers_that_all_stop_their_source_do_not_wait_for_each_other(context, spawn):
    ended = []

    def handle(_message):
        ended.append(source.stop(AGES))

    source = Source.open(zmq.PULL, handle, bind="inproc://a", context=context, spawn=spawn)
    with closing(source, Source.open(zmq.PUSH, connect="inproc://a", context=context)) as (_, push):
        send_numbers(push, 4)
        source.start()
        wait_until(lambda: source.closed)
        wait_until(lambda: len(ended) == (1 if spawn == 1 else 2))
        dropped = source.stats().dropped
        assert "killed" not in dropped
        assert sum(dropped.values()) + len(ended) == 4


@pytest.mark.parametrize(
    "end", [lambda source: source.stop(drain=False), lambda source: source.close()]
)
def test_a_stop_that_drains_can_be_cut_short(context, end):
    source = Patient.open(zmq.PULL, print, bind="tcp://127.0.0.1:*", context=context)
    with closing(source):
        source.start()
        stopping = gevent.spawn(source.stop)
        all_blocked()
        assert "draining" in repr(source)
        assert source.started
        end(source)
        stopping.get(timeout=5)
        assert source.closed


def test_a_pause_ends_the_drain(context):
    source = Patient.open(zmq.PULL, print, bind="tcp://127.0.0.1:*", context=context)
    with closing(source):
        source.start()
        stopping = gevent.spawn(source.stop)
        all_blocked()
        source.pause()
        stopping.get(timeout=5)


def test_many_sources_stop_in_the_time_of_one(context):
    class Hasty(Source):
        quiet = 0.1

    def opened():
        return Hasty.open(zmq.PULL, print, bind="tcp://127.0.0.1:*", context=context)

    sources = [opened() for _ in range(300)]
    with closing(*sources):
        for source in sources:
            source.start()
        with gevent.Timeout(15):  # one after another they take 30 s
            gevent.joinall([gevent.spawn(source.stop, 60) for source in sources])
        assert all(source.closed for source in sources)


def test_what_a_block_could_not_send_is_counted_and_logged(context, caplog):
    with Source.open(zmq.PUSH, connect="inproc://a", context=context, linger=0, sndhwm=1) as push:
        push.stop_timeout = 0.05
        for number in range(10):
            push.send(b"%d" % number)
        queued = push.stats().outbox_depth
    assert push.stats().dropped == {"unsent": queued}
    assert f"{queued} unsent" in caplog.text


def test_what_libzmq_could_not_send_in_time_is_logged(context, caplog):
    push = Source.open(zmq.PUSH, connect="ipc:///nobody/is/there", context=context)
    push.stop(0.1)
    assert not caplog.records  # it held nothing
    push = Source.open(zmq.PUSH, connect="ipc:///nobody/is/there", context=context)
    push.send(b"to whom?")
    assert push.stop(0.1) == []
    assert "could not send in time" in caplog.messages[0]


def test_recv_raises_once_the_source_receives_no_more(context):
    receiver, sender = pair_of(context, "tcp://127.0.0.1:*")
    with closing(receiver, sender):
        pulling = gevent.spawn(receiver.recv)
        all_blocked()
        stopped(receiver)
        with pytest.raises(SourceClosed):
            pulling.get(timeout=5)


def test_what_only_receives_is_unbound_before_its_handlers_are_waited_for(context):
    """So what its peers send meanwhile stays with them."""
    gate = Event()

    def wait(_message):
        gate.wait()

    source = Source.open(zmq.PULL, wait, bind="tcp://127.0.0.1:*", context=context, spawn=2)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(source), context=context, linger=0)
    with closing(source, sender), Monitor(sender) as monitor:
        source.start()
        sender.send(b"x")
        wait_until(lambda: source.stats().received)
        stopping = gevent.spawn(source.stop, AGES)
        monitor.wait_for("disconnected", timeout=20)
        assert not source.closed
        gate.set()
        stopping.get(timeout=20)
        assert source.stats().dropped == {}


def test_a_handler_over_the_deadline_leaves_libzmq_time_to_send(context, monkeypatch):
    monkeypatch.setattr(phases, "_LINGER_SHARE", 0.9)
    monkeypatch.setattr(phases, "_LINGER", AGES)

    def handle(message):
        server.send(message)
        gevent.sleep(AGES)

    server = Source.open(zmq.ROUTER, handle, bind="tcp://127.0.0.1:*", context=context)
    client = Source.open(zmq.DEALER, connect=endpoint_of(server), context=context, linger=0)
    with closing(server, client):
        server.start()
        client.send(b"x")
        assert client.recv(timeout=5) == [b"x"]
        with gevent.Timeout(8):  # of the 10 seconds, 9 are left
            assert server.stop(10, drain=False) == []
        assert server.stats().dropped == {"killed": 1}

"""What `stats` and `repr` tell, in each state of a source."""

import ast
import dataclasses
import inspect

import gevent
import pytest
import zmq
from gevent.event import Event
from helpers import closing, pair_of

import gzmqsource._source.stats
from gzmqsource import SendError, Source, Stats
from gzmqsource.testing import all_blocked, wait_until

FRESH = {
    "received": 0,
    "sent": 0,
    "dropped": {},
    "errors": 0,
    "wakeups": 0,
    "budget_stops": 0,
    "in_hand": 0,
    "outbox_depth": 0,
    "outbox_bytes": 0,
    "outbox_peak": 0,
    "oldest_queued_age": 0.0,
}


@pytest.mark.parametrize("handle", [None, print], ids=["pulled", "handled"])
def test_a_fresh_source_has_done_nothing(context, handle):
    with closing(Source.open(zmq.DEALER, handle, context=context)) as (source,):
        assert dataclasses.asdict(source.stats()) == FRESH


def test_a_snapshot_is_frozen_and_does_not_follow_the_source(context):
    source = Source.open(zmq.PUSH, context=context, outbox=1, overflow="drop_newest", linger=0)
    with closing(source):
        source.send(b"1")
        source.send(b"2")
        snapshot = source.stats()
        source.send(b"3")
        assert snapshot.dropped == {"newest": 1}
        assert source.stats().dropped == {"newest": 2}
        for field in dataclasses.fields(snapshot):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(snapshot, field.name, 0)


def test_each_field_has_a_docstring():
    module = ast.parse(inspect.getsource(gzmqsource._source.stats))
    (definition,) = (each for each in module.body if isinstance(each, ast.ClassDef))
    documented = {
        field.target.id
        for field, text in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
    assert documented == {field.name for field in dataclasses.fields(Stats)}


def test_every_reason_for_a_drop_is_documented():
    text = inspect.getsource(gzmqsource._source.stats)
    for reason in ("newest", "oldest", "refused", "killed", "unsent", "unhandled", "unread"):
        assert f'``"{reason}"``' in text


def test_messages_are_counted_whole_however_they_come(context, endpoint):
    receiver, sender = pair_of(context, endpoint)
    with closing(receiver, sender):
        for _ in range(6):
            sender.send([b"a", b"b", b"c"])
        receiver.recv(timeout=5)
        next(iter(receiver))
        count = 2
        while count < 6:
            count += len(receiver.recv_many(2, timeout=5))
        assert receiver.stats().received == count == 6
        assert sender.stats().sent == 6
        assert (receiver.stats().sent, sender.stats().received) == (0, 0)


def test_queued_messages_are_sent_when_libzmq_has_taken_them(context):
    source = Source.open(zmq.PUSH, context=context)
    peer = Source.open(zmq.PULL, bind="inproc://a", context=context)
    with closing(source, peer):
        for _ in range(3):
            source.send(b"x")
        before = source.stats()
        assert (before.sent, before.outbox_depth, before.outbox_peak) == (0, 3, 3)
        assert before.oldest_queued_age > 0
        source.socket.connect("inproc://a")
        assert source.flush(5)
        after = source.stats()
        assert (after.sent, after.outbox_depth, after.outbox_peak) == (3, 0, 3)
        assert after.oldest_queued_age == 0.0


def test_the_peak_counts_what_is_withdrawn_later(context):
    with closing(Source.open(zmq.PUSH, context=context, linger=0)) as (source,):
        for message in (b"1", b"2", b"3"):
            source.send(message)
        assert all(map(source.withdraw, [b"3", b"1", b"2"]))
        assert (source.stats().outbox_depth, source.stats().outbox_peak) == (0, 3)


def test_the_peak_counts_what_a_larger_message_displaces(context):
    with closing(
        Source.open(zmq.PUSH, context=context, overflow="drop_oldest", outbox_bytes=1000, linger=0)
    ) as (source,):
        for _ in range(3):
            source.send(b"small")
        source.send(b"x" * 900)
        assert (source.stats().outbox_depth, source.stats().outbox_peak) == (1, 3)


def test_a_refused_message_is_not_sent(context):
    with closing(Source.open(zmq.PULL, context=context)) as (source,):
        with pytest.raises(SendError):
            source.send(b"x")
        assert dataclasses.asdict(source.stats()) == FRESH


def test_waking_up_is_counted_and_idling_is_not(context):
    receiver, sender = pair_of(context, "inproc://a")
    with closing(receiver, sender):
        for count in range(1, 4):
            pulling = gevent.spawn(receiver.recv)
            all_blocked()
            before = receiver.stats().wakeups
            all_blocked(10)
            assert receiver.stats().wakeups == before
            sender.send(b"x")
            pulling.get(timeout=5)
            assert receiver.stats().wakeups > before
            assert receiver.stats().received == count


def test_stats_follow_a_handler_from_start_to_close(context, monkeypatch):
    # No delay of this process ends a turn, after which less would be read ahead.
    monkeypatch.setattr(Source, "max_seconds", 3600)
    gate, begun = Event(), []

    def handle(message):
        begun.append(message)
        if len(begun) == 6:
            gate.wait()
        if message == [b"bad"]:
            raise ValueError

    source = Source.open(
        zmq.PULL, handle, bind="inproc://a", context=context, on_error=lambda *_: None
    )
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(source, sender):
        sender.send(b"bad")
        for _ in range(40):
            sender.send(b"x")
        assert source.stats().received == 0
        source.start()
        wait_until(lambda: len(begun) == 6)
        held = source.stats()
        assert held.errors == 1
        assert held.received == 6 + held.in_hand
        assert held.in_hand > 0
        source.close()
        closed = source.stats()
        assert (closed.received, closed.in_hand) == (held.received, 0)
        assert closed.dropped == {"unhandled": held.in_hand}
        gate.set()
        all_blocked()
        assert source.stats() == closed
        assert len(begun) == 6


def test_in_hand_is_bounded_in_bytes_too(context):
    gate = Event()

    def wait(_message):
        gate.wait()

    source = Source.open(zmq.PULL, wait, bind="inproc://a", context=context)
    source.max_batch = 100
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(source, sender):
        for _ in range(40):
            sender.send(b"x" * 300_000)
        source.start()
        for _ in range(20):
            wait_until(lambda: not gate.is_set())
            assert source.stats().in_hand <= source.max_bytes // 300_000 + 1
            gate.set()
            gate.clear()
            gevent.sleep(0)


def test_stopping_keeps_the_counts(context, endpoint):
    receiver, sender = pair_of(context, endpoint)
    with closing(receiver, sender):
        sender.send(b"x")
        receiver.recv(timeout=5)
        before = sender.stats(), receiver.stats()
        assert sender.stop() == []
        assert receiver.stop() == []
        for source, stats in zip((sender, receiver), before, strict=True):
            assert (source.stats().sent, source.stats().received) == (stats.sent, stats.received)
            assert source.stats().dropped == {}


def test_what_is_queued_when_it_closes_is_counted_as_dropped(context):
    source = Source.open(zmq.PUSH, context=context, linger=0)
    for _ in range(3):
        source.send(b"x")
    source.close()
    stats = source.stats()
    assert stats.dropped == {"unsent": 3}
    assert (stats.outbox_depth, stats.outbox_peak, stats.oldest_queued_age) == (0, 3, 0.0)


def test_repr_shows_type_endpoint_state_and_whether_it_is_paused(context):
    class Server(Source):
        pass

    server = Server.open(zmq.ROUTER, print, context=context)
    with closing(server):
        assert repr(server) == "<Server ROUTER not started>"
        server.socket.bind("inproc://a")
        assert repr(server) == "<Server ROUTER inproc://a not started>"
        server.pause()
        assert repr(server) == "<Server ROUTER inproc://a not started paused>"
        server.start()
        assert repr(server) == "<Server ROUTER inproc://a started paused>"
        server.resume()
        assert repr(server) == "<Server ROUTER inproc://a started>"
        server.pause()
        server.close()
        assert repr(server) == "<Server ROUTER inproc://a closed>"


def test_repr_shows_that_it_is_stopping(context):
    source = Source.open(zmq.PUSH, context=context, linger=0)
    with closing(source):
        source.send(b"x")
        stopping = gevent.spawn(source.stop, 10)
        all_blocked()
        assert repr(source) == "<Source PUSH stopping>"
        stopping.kill()


def test_repr_names_the_last_endpoint_that_was_connected(context):
    receiver, sender = pair_of(context, "tcp://127.0.0.1:*")
    with closing(receiver, sender):
        where = receiver.socket.get(zmq.LAST_ENDPOINT).decode().rstrip("\0")
        assert repr(receiver) == f"<Source PULL {where} started>"
        assert repr(sender) == f"<Source PUSH {where} started>"


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.SUB, zmq.REP, zmq.STREAM, zmq.XPUB, zmq.PAIR])
def test_repr_names_every_type(context, kind):
    with closing(Source.open(kind, context=context)) as (source,):
        assert repr(source) == f"<Source {zmq.SocketType(kind).name} started>"

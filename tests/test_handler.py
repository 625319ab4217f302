"""Where a handler runs, what it gets, and that nothing is read while it is busy."""

import gevent
import pytest
import zmq
from gevent.event import Event
from gevent.pool import Group, Pool
from handlers import NUMBERS, Gate, every_spawn, fed
from helpers import closing, endpoint_of, is_readable, pair_of

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until


@every_spawn
def test_every_message_is_handled_once(context, endpoint, spawn):
    got: list[list[bytes]] = []
    with fed(context, got.append, endpoint, spawn=spawn()) as (_, sender):
        for number in NUMBERS:
            sender.send(number)
        wait_until(lambda: len(got) >= len(NUMBERS))
        all_blocked()
    assert sorted(got) == sorted([number] for number in NUMBERS)


def test_without_spawn_messages_are_handled_in_order_one_at_a_time(context, endpoint):
    got = []
    inside: list[list[bytes]] = []

    def handle(message):
        assert not inside
        inside.append(message)
        gevent.sleep(0)
        got.append(inside.pop())

    with fed(context, handle, endpoint) as (source, sender):
        for number in NUMBERS:
            sender.send(number)
        wait_until(lambda: len(got) + source.stats().errors >= len(NUMBERS))
    assert got == [[number] for number in NUMBERS]


@pytest.mark.parametrize(
    ("spawn", "most"),
    [(None, 1), (3, 3), (Pool(5), 5), (gevent.spawn, 40), (gevent.spawn_raw, 40), (Group(), 40)],
    ids=["None", "int", "Pool", "gevent.spawn", "gevent.spawn_raw", "Group"],
)
def test_spawn_bounds_how_many_handlers_run(context, spawn, most):
    gate = Gate()
    with fed(context, gate, spawn=spawn) as (_, sender):
        for number in NUMBERS[:40]:
            sender.send(number)
        wait_until(lambda: gate.running == most)
        all_blocked()
        assert gate.most == most
        gate.opened.set()
        wait_until(lambda: len(gate.done) == 40)
        assert gate.most == most


def test_a_pool_can_be_shared_with_others(context):
    gate, pool, others = Gate(), Pool(3), Event()
    for _ in range(2):
        pool.spawn(others.wait)
    with fed(context, gate, spawn=pool) as (_, sender):
        for number in NUMBERS[:10]:
            sender.send(number)
        wait_until(lambda: gate.running)
        all_blocked()
        assert gate.running == 1
        others.set()
        wait_until(lambda: gate.running == 3)
        gate.opened.set()
        wait_until(lambda: len(gate.done) == 10)


def test_a_subclass_may_define_the_handler(context, endpoint):
    class Server(Source):
        got = None

        def handle(self, message):
            self.got = message

    server = Server.open(zmq.PULL, bind=endpoint, context=context)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, sender):
        assert not server.started
        server.start()
        sender.send([b"one", b"two"])
        assert wait_until(lambda: server.got) == [b"one", b"two"]


def test_a_handler_that_is_given_goes_before_the_method(context):
    class Server(Source):
        def handle(self, message):
            raise AssertionError("not this one")

    got: list[list[bytes]] = []
    server = Server.open(zmq.PULL, got.append, bind="inproc://given", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://given", context=context)
    with closing(server, sender):
        server.start()
        sender.send(b"one")
        assert wait_until(lambda: got) == [[b"one"]]
        assert server.stats().errors == 0


def test_nothing_is_read_before_the_start_and_what_is_there_comes_first(context, endpoint):
    got: list[list[bytes]] = []
    source = Source.open(zmq.PULL, got.append, bind=endpoint, context=context)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(source), context=context)
    with closing(source, sender):
        sender.send(b"one")
        wait_until(lambda: is_readable(source.socket))  # and the edge is spent
        all_blocked()
        assert (got, source.started, source.stats().received) == ([], False, 0)
        source.start()
        sender.send(b"two")
        wait_until(lambda: len(got) == 2)
        assert got == [[b"one"], [b"two"]]


def test_starting_twice_is_starting_once(context):
    gate = Gate()
    with fed(context, gate) as (source, sender):
        source.start()
        sender.send(b"one")
        sender.send(b"two")
        wait_until(lambda: gate.begun)
        all_blocked()
        assert gate.begun == [[b"one"]]
        gate.opened.set()
        wait_until(lambda: len(gate.done) == 2)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("frames", [[b""], [b"one"], [b"a", b"", b"x" * 100_000, b""]])
def test_a_message_comes_whole_as_bytes_or_as_frames(context, endpoint, copy, frames):
    got: list[list[bytes]] = []
    with fed(context, got.append, endpoint, copy=copy) as (_, sender):
        sender.send(frames)
        (message,) = wait_until(lambda: got)
    assert type(message) is list
    assert {type(frame) for frame in message} == {bytes if copy else zmq.Frame}
    assert [bytes(frame) for frame in message] == frames


@pytest.mark.parametrize(
    ("spawn", "error"),
    [
        *[(0, ValueError), (-1, ValueError), (True, TypeError), (False, TypeError)],
        *[("4", TypeError), (1.5, TypeError), (object(), TypeError)],
    ],
    ids=["0", "-1", "True", "False", "str", "float", "object"],
)
def test_what_cannot_spawn_is_an_error_and_leaves_the_socket_to_its_owner(context, spawn, error):
    with context.socket(zmq.PULL) as socket:
        with pytest.raises(error, match="spawn="):
            Source(socket, print, spawn=spawn)
        Source(socket, print).close()


@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.PUB])
def test_a_handler_on_a_socket_that_receives_nothing_is_a_value_error(context, kind):
    with context.socket(kind) as socket, pytest.raises(ValueError, match="receives nothing"):
        Source(socket, print)


def test_a_source_may_get_its_handler_later(context, endpoint):
    got: list[list[bytes]] = []
    receiver, sender = pair_of(context, endpoint)
    with receiver, sender:
        sender.send(b"pulled")
        assert receiver.recv(timeout=10) == [b"pulled"]
        receiver.set_handle(got.append, spawn=2)
        assert not receiver.started
        sender.send(b"handled")
        all_blocked()
        assert got == []
        receiver.start()
        wait_until(lambda: got == [[b"handled"]])
        with pytest.raises(TypeError, match="has a handler"):
            receiver.recv()
        with pytest.raises(ValueError, match="has a handler already"):
            receiver.set_handle(got.append)


def test_no_handler_for_who_is_waited_for_or_receives_nothing(context):
    receiver, sender = pair_of(context, "inproc://x")
    with receiver, sender:
        waiting = gevent.spawn(receiver.recv)
        all_blocked()
        with pytest.raises(ValueError, match="while a greenlet waits in recv"):
            receiver.set_handle(print)
        with pytest.raises(ValueError, match="a PUSH socket receives nothing"):
            sender.set_handle(print)
        sender.send(b"x")
        assert waiting.get(timeout=10) == [b"x"]
        with pytest.raises(TypeError, match="spawn"):
            receiver.set_handle(print, spawn="pool")
        assert receiver.handle is None


def test_a_reported_error_goes_where_those_of_a_handler_go(context):
    errors = []
    source = Source.open(
        zmq.PULL,
        bind="inproc://x",
        context=context,
        on_error=lambda error, message: errors.append((error, message)),
    )
    with source:
        error = KeyError("x")
        source.report(error, [b"message"])
        source.report(error)
        assert errors == [(error, [b"message"]), (error, None)]
        assert source.stats().errors == 2

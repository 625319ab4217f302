"""`Source.open` makes the socket, sets it up in the right order, and leaves nothing if it fails."""

import gc

import pytest
import zmq
from helpers import closing, endpoint_of, is_readable

from gzmqsource import Source
from gzmqsource.testing import wait_until

ONE_OR_SEVERAL = {
    "str": lambda *names: names[0],
    "list": lambda *names: [*names],
    "tuple": lambda *names: names,
    "generator": lambda *names: (name for name in names),
}
several = pytest.mark.parametrize("form", ONE_OR_SEVERAL.values(), ids=list(ONE_OR_SEVERAL))


@several
def test_bind_is_one_endpoint_or_several(context, form):
    source = Source.open(zmq.PULL, bind=form("inproc://a", "inproc://b"), context=context)
    with closing(source):
        for name in (
            ["inproc://a"] if form is ONE_OR_SEVERAL["str"] else ["inproc://a", "inproc://b"]
        ):
            with closing(Source.open(zmq.PUSH, connect=name, context=context)) as (peer,):
                peer.send(name.encode())
                assert source.recv(timeout=5) == [name.encode()]


@several
def test_connect_is_one_endpoint_or_several(context, form):
    peers = {
        name: Source.open(zmq.PULL, bind=name, context=context)
        for name in ("inproc://a", "inproc://b")
    }
    source = Source.open(zmq.PUSH, connect=form(*peers), context=context)
    with closing(source, *peers.values()):
        wanted = list(peers)[: 1 if form is ONE_OR_SEVERAL["str"] else 2]
        for _ in wanted:
            source.send(b"x")
        for name in wanted:
            assert peers[name].recv(timeout=5) == [b"x"]


@pytest.mark.parametrize(
    ("subscribe", "heard"),
    [
        ("", ["a", "b", "c"]),
        (b"", ["a", "b", "c"]),
        ("a", ["a"]),
        (b"a", ["a"]),
        (["a", b"c"], ["a", "c"]),
        (("b",), ["b"]),
        ((), []),
    ],
    ids=repr,
)
def test_subscribe_is_one_topic_or_several(context, subscribe, heard):
    publisher = Source.open(zmq.PUB, bind="inproc://a", context=context)
    reader = Source.open(zmq.SUB, connect="inproc://a", subscribe=subscribe, context=context)

    def is_heard():
        publisher.send(b"end")
        return is_readable(reader.socket)

    with closing(publisher, reader):
        publisher.send(b"a")  # takes note of the subscriptions, as each send does
        for topic in ("a", "b", "c", "end"):
            publisher.send(topic.encode())
        reader.socket.subscribe("end")
        got: list[str] = []
        while not got or got[-1] != "end":
            wait_until(is_heard)
            got.append(reader.recv(timeout=5)[0].decode())
        assert sorted(set(got) - {"end"}) == heard


def test_bind_and_connect_go_together(context):
    end = Source.open(zmq.PULL, bind="inproc://end", context=context)
    middle = Source.open(
        zmq.DEALER, bind="inproc://front", connect="inproc://back", context=context
    )
    front = Source.open(zmq.DEALER, connect="inproc://front", context=context)
    back = Source.open(zmq.DEALER, bind="inproc://back", context=context)
    with closing(end, middle, front, back):
        for peer in (front, back):
            peer.send(b"x")
            assert middle.recv(timeout=5) == [b"x"]


def test_options_are_set_before_binding_and_connecting(context):
    """The high-water mark, the routing id and the rest hold only for what comes after them."""
    router = Source.open(zmq.ROUTER, bind="tcp://127.0.0.1:*", context=context, rcvhwm=3)
    dealer = Source.open(
        zmq.DEALER, connect=endpoint_of(router), context=context, routing_id=b"me", sndhwm=5
    )
    with closing(router, dealer):
        assert router.socket.rcvhwm == 3
        assert dealer.socket.sndhwm == 5
        dealer.send(b"x")
        assert router.recv(timeout=5) == [b"me", b"x"]


def test_a_high_water_mark_holds_for_the_endpoint_of_the_same_call(context):
    receiver = Source.open(zmq.PULL, bind="inproc://a", context=context, rcvhwm=1)
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context, sndhwm=1, linger=0)
    with closing(receiver, sender):
        for _ in range(10):
            sender.send(b"x")
        assert sender.stats().sent == 2


def test_the_other_arguments_reach_the_source(context):
    errors = []

    def handle(message):
        raise ValueError(message[0].bytes)

    def on_error(error, message):
        errors.append((error.args, type(message[0])))

    server = Source.open(
        zmq.PULL,
        handle,
        bind="inproc://a",
        context=context,
        spawn=2,
        copy=False,
        on_error=on_error,
    )
    client = Source.open(zmq.PUSH, context=context, outbox=2, overflow="drop_oldest", linger=0)
    with closing(server, client):
        for number in range(4):
            client.send(b"%d" % number)
        assert client.stats().dropped == {"oldest": 2}
        server.start()
        client.socket.connect("inproc://a")
        wait_until(lambda: len(errors) == 2)
    assert errors == [((b"2",), zmq.Frame), ((b"3",), zmq.Frame)]


def test_a_subclass_opens_itself(context):
    class Server(Source):
        def handle(self, message):
            pass

    with closing(Server.open(zmq.PULL, context=context)) as (server,):
        assert type(server) is Server
        assert not server.started


def test_the_context_is_the_instance_if_none_is_given():
    source = Source.open(zmq.PULL, bind="inproc://gzmqsource-default")
    default: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    peer = default.socket(zmq.PUSH)
    try:
        peer.connect("inproc://gzmqsource-default")
        peer.send(b"x")
        assert source.recv(timeout=5) == [b"x"]
    finally:
        peer.close()
        source.close()


def test_the_source_leaves_its_context_open(context):
    Source.open(zmq.PULL, context=context).close()
    assert not context.closed
    Source.open(zmq.PULL, context=context).close()


FAILURES = {
    "an unknown scheme": (zmq.PULL, {"bind": "nonsense://x"}, zmq.ZMQError),
    "no address": (zmq.PULL, {"connect": "tcp://"}, zmq.ZMQError),
    "the second endpoint": (zmq.PULL, {"bind": ["inproc://a", "nonsense://x"]}, zmq.ZMQError),
    "an endpoint that is no text": (zmq.PULL, {"bind": [1]}, TypeError),
    "an unknown option": (zmq.PULL, {"no_such_option": 1}, AttributeError),
    "a bad value": (zmq.PULL, {"rcvhwm": -2}, zmq.ZMQError),
    "a value of the wrong type": (zmq.PULL, {"rcvhwm": "many"}, TypeError),
    "subscribing to nothing to subscribe": (zmq.PULL, {"subscribe": "a"}, zmq.ZMQError),
    "a topic that is no text": (zmq.SUB, {"subscribe": [1]}, TypeError),
    "spawn": (zmq.PULL, {"handle": print, "spawn": 0}, ValueError),
    "outbox": (zmq.PUSH, {"outbox": 0}, ValueError),
    "overflow": (zmq.PUSH, {"overflow": "explode"}, ValueError),
    "a handler for nothing": (zmq.PUSH, {"handle": print}, ValueError),
}


@pytest.mark.parametrize(("kind", "options", "error"), FAILURES.values(), ids=list(FAILURES))
def test_what_fails_leaves_no_socket_open(context, kind, options, error):
    with pytest.raises(error) as raised:
        Source.open(kind, context=context, **options)
    assert context._sockets == [] or all(socket.closed for socket in context._sockets)
    context.term()  # it would wait for an open socket
    del raised
    gc.collect()  # nothing is left that warns of being collected


def test_an_address_in_use_is_an_error_and_the_other_source_goes_on(context):
    with closing(Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)) as (source,):
        where = endpoint_of(source)
        with pytest.raises(zmq.ZMQError) as raised:
            Source.open(zmq.PULL, bind=["inproc://a", where], context=context)
        assert raised.value.errno == zmq.EADDRINUSE
        with closing(Source.open(zmq.PUSH, connect=where, context=context)) as (peer,):
            peer.send(b"x")
            assert source.recv(timeout=5) == [b"x"]

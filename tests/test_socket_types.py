"""Handlers on each type of socket, end to end."""

import contextlib

import gevent
import gevent.socket
import pytest
import zmq
from handlers import NUMBERS, every_spawn
from helpers import closing, endpoint_of

from gzmqsource import Source
from gzmqsource.testing import wait_until


@every_spawn
def test_a_rep_handler_answers_each_request(context, endpoint, spawn):
    def answer(message):
        gevent.sleep(0)
        server.send([b"re", *message])

    server = Source.open(zmq.REP, answer, bind=endpoint, context=context, spawn=spawn())
    clients = [
        Source.open(zmq.REQ, connect=endpoint_of(server), context=context, linger=0)
        for _ in range(3)
    ]

    def ask(number):
        client = clients[number]
        for turn in range(20):
            request = [b"%d" % number, b"%d" % turn]
            client.send(request)
            assert client.recv(timeout=5) == [b"re", *request]

    with closing(server, *clients):
        server.start()
        gevent.joinall([gevent.spawn(ask, number) for number in range(3)], raise_error=True)
        assert server.stats().errors == 0
        assert server.stats().received == server.stats().sent == 60


def test_a_router_handler_answers_each_dealer(context, endpoint):
    server: Source = Source.open(
        zmq.ROUTER, lambda message: server.send(message), bind=endpoint, context=context, linger=0
    )
    dealers = [
        Source.open(zmq.DEALER, connect=endpoint_of(server), context=context, linger=0)
        for _ in range(3)
    ]
    with closing(server, *dealers):
        server.start()
        for number in NUMBERS:
            for dealer in dealers:
                dealer.send([b"", number])
        for dealer in dealers:
            assert [dealer.recv(timeout=5) for _ in NUMBERS] == [[b"", n] for n in NUMBERS]


def test_an_xpub_handler_gets_subscriptions_and_sub_what_it_asked_for(context, endpoint):
    subscriptions: list[list[bytes]] = []
    news: list[list[bytes]] = []
    publisher = Source.open(zmq.XPUB, subscriptions.append, bind=endpoint, context=context)
    where = endpoint_of(publisher)
    reader = Source.open(
        zmq.SUB, news.append, connect=where, subscribe=["a", b"b"], context=context
    )
    with closing(publisher, reader):
        publisher.start()
        reader.start()
        wait_until(lambda: len(subscriptions) == 2)
        for topic in (b"a", b"c", b"b"):
            publisher.send([topic, b"text"])
        wait_until(lambda: len(news) == 2)
        reader.socket.unsubscribe("a")
        wait_until(lambda: len(subscriptions) == 3)
    assert subscriptions == [[b"\x01a"], [b"\x01b"], [b"\x00a"]]
    assert news == [[b"a", b"text"], [b"b", b"text"]]


def test_pub_to_sub(context, endpoint):
    publisher = Source.open(zmq.PUB, bind=endpoint, context=context)
    reader = Source.open(zmq.SUB, connect=endpoint_of(publisher), subscribe="", context=context)

    def publish():
        while True:
            publisher.send([b"topic", b"news"])
            gevent.sleep(0.01)

    with closing(publisher, reader):
        publishing = gevent.spawn(publish)
        try:
            assert reader.recv(timeout=5) == [b"topic", b"news"]
        finally:
            publishing.kill()


@pytest.mark.parametrize(
    ("kind", "peer"), [(zmq.PAIR, zmq.PAIR), (zmq.DEALER, zmq.DEALER)], ids=["PAIR", "DEALER"]
)
def test_both_ends_can_have_a_handler(context, endpoint, kind, peer):
    got: list[list[bytes]] = []
    one: Source = Source.open(
        kind, lambda message: one.send([*message, b"1"]), bind=endpoint, context=context, linger=0
    )
    two = Source.open(peer, got.append, connect=endpoint_of(one), context=context, linger=0)
    with closing(one, two):
        one.start()
        two.start()
        for number in NUMBERS:
            two.send(number)
        wait_until(lambda: len(got) == len(NUMBERS))
    assert got == [[number, b"1"] for number in NUMBERS]


def test_a_stream_handler_talks_to_a_plain_tcp_client(context):
    def handle(message):
        identity, data = message
        if data:
            server.send([identity, data.upper()])

    server = Source.open(zmq.STREAM, handle, bind="tcp://127.0.0.1:*", context=context, linger=0)
    with closing(server):
        server.start()
        port = int(endpoint_of(server).rpartition(":")[2])
        with contextlib.closing(gevent.socket.create_connection(("127.0.0.1", port))) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"
        wait_until(lambda: server.stats().received >= 3)  # connected, hello, disconnected

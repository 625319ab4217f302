"""Bad input and calls out of order give what they give with pyzmq."""

import itertools
import mmap

import gevent
import pytest
import zmq
from green_under_test import soon
from zmq.sugar.context import Context as PlainContext


def closed_mmap():
    made = mmap.mmap(-1, 1)
    made.close()
    return made


BAD = {
    "send str": lambda s: s.send("text"),
    "send int": lambda s: s.send(1),
    "send None": lambda s: s.send(None),
    "send_multipart str": lambda s: s.send_multipart(["text"]),
    "send_multipart mixed": lambda s: s.send_multipart([b"a", 1]),
    "send_multipart int": lambda s: s.send_multipart(7),
    "send_multipart bytes": lambda s: s.send_multipart(b"abc"),
    "send_multipart generator": lambda s: s.send_multipart(each for each in [b"a"]),
    "send_multipart tuple": lambda s: s.send_multipart(()),
    "send_multipart closed mmap": lambda s: s.send_multipart([closed_mmap()]),
    "send_multipart nothing": lambda s: s.send_multipart([]),
    "send_string bytes": lambda s: s.send_string(b"x"),
    "recv flags": lambda s: s.recv("flags"),
    "monitor int": lambda s: s.monitor(5),
    "recv nothing": lambda s: s.recv(zmq.NOBLOCK),
    "recv_into bytes": lambda s: s.recv_into(b"constant"),
    "bind nonsense": lambda s: s.bind("nonsense://x"),
    "bind empty": lambda s: s.bind("tcp://"),
    "bind int": lambda s: s.bind(1),
    "connect nonsense": lambda s: s.connect("nonsense"),
    "unbind unknown": lambda s: s.unbind("tcp://127.0.0.1:1"),
    "disconnect unknown": lambda s: s.disconnect("tcp://127.0.0.1:1"),
    "set unknown": lambda s: s.set(123456, 1),
    "set str": lambda s: s.set(zmq.LINGER, "x"),
    "set bad": lambda s: s.set(zmq.RCVHWM, -5),
    "get unknown": lambda s: s.get(123456),
    "attribute": lambda s: s.nothing_like_it,
    "subscribe": lambda s: s.subscribe(b"x"),
    "closed send": lambda s: (s.close(), s.send(b"x")),
    "closed send_multipart": lambda s: (s.close(), s.send_multipart([b"x"])),
    "closed recv": lambda s: (s.close(), s.recv()),
    "closed recv_multipart": lambda s: (s.close(), s.recv_multipart()),
    "closed get": lambda s: (s.close(), s.get(zmq.LINGER)),
    "closed poll": lambda s: (s.close(), s.poll(0)),
    "closed bind": lambda s: (s.close(), s.bind("inproc://x")),
}


@pytest.mark.parametrize("kind", [zmq.PAIR, zmq.PUSH, zmq.PULL, zmq.REQ, zmq.REP, zmq.SUB])
@pytest.mark.parametrize("call", BAD.values(), ids=list(BAD))
def test_bad_input_gives_what_pyzmq_gives(green, call, kind):
    def outcome(make):
        with make() as context, context.socket(kind) as socket:
            socket.linger = 0
            socket.rcvtimeo = socket.sndtimeo = 1  # a good call on one of the types may wait
            try:
                call(socket)
            except Exception as error:
                return type(error), getattr(error, "errno", None)
            return None

    assert outcome(green.Context) == outcome(PlainContext)


def test_a_bad_frame_sends_nothing_of_its_message(pair):
    receiver, sender = pair()
    for _ in range(2):
        with pytest.raises(TypeError):
            sender.send_multipart([b"a", "b"])
        sender.send(b"whole")
        assert receiver.recv_multipart() == [b"whole"]


def test_a_rep_out_of_order_is_the_error_at_once(context):
    rep = context.socket(zmq.REP)
    with pytest.raises(zmq.ZMQError) as raised:
        rep.send(b"x")
    assert raised.value.errno == zmq.EFSM


@pytest.mark.parametrize("receive", ["recv", "recv_multipart"])
def test_a_receive_by_a_socket_that_must_send_first_is_the_error_at_once(context, receive):
    reply, request = context.socket(zmq.REP), context.socket(zmq.REQ)
    reply.bind("inproc://order")
    request.connect("inproc://order")
    request.send(b"x")
    assert soon(gevent.spawn(getattr(reply, receive))) in (b"x", [b"x"])
    reply.send(b"y")
    assert soon(gevent.spawn(getattr(request, receive))) in (b"y", [b"y"])
    request.send(b"x")
    assert soon(gevent.spawn(getattr(reply, receive)))
    for socket, copy in itertools.product((reply, context.socket(zmq.REQ)), (True, False)):
        with pytest.raises(zmq.ZMQError) as raised:
            soon(gevent.spawn(getattr(socket, receive), copy=copy))
        assert raised.value.errno == zmq.EFSM


def test_a_router_that_must_know_its_peer_says_if_it_does_not(context):
    router = context.socket(zmq.ROUTER)
    router.router_mandatory = True
    with pytest.raises(zmq.ZMQError) as raised:
        router.send_multipart([b"nobody", b"x"])
    assert raised.value.errno == zmq.EHOSTUNREACH


def test_bytes_are_never_a_message_of_several_frames(pair):
    """Also right after another message, when a short cut may serve the socket."""
    receiver, sender = pair()
    for _ in range(10):
        sender.send(b"x")
        assert receiver.recv() == b"x"
        with pytest.raises(TypeError):
            sender.send_multipart(b"abc")


def test_monitors_can_be_disabled_again_and_again(context):
    """libzmq tells the monitor's peer of the end, and waits for a peer that is gone."""
    for _ in range(100):
        socket = context.socket(zmq.SUB)
        socket.get_monitor_socket()
        socket.disable_monitor()
        socket.close()


@pytest.mark.parametrize("kind", [zmq.PULL, zmq.SUB])
def test_a_message_of_a_socket_that_sends_nothing_is_not_to_be_tried_again(context, kind):
    socket = context.socket(kind)
    socket.send(b"x", zmq.NOBLOCK | zmq.SNDMORE)
    with pytest.raises(zmq.ZMQError) as raised:
        socket.send(b"x", zmq.NOBLOCK)
    assert raised.value.errno == zmq.ENOTSUP

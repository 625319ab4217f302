"""The drop-in is pyzmq: all that sockets and contexts offer works, and waits in the hub."""

import contextlib
import gc
import pickle
import types
import typing
import warnings
import weakref
from typing import Any

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._socket.writers import ManyWriters
from gzmqsource.testing import all_blocked, wait_until

# Names and types


def test_every_name_of_zmq_is_offered(green):
    assert [name for name in zmq.__all__ if not hasattr(green, name)] == []
    # A submodule is a name of zmq's only once something has imported it.
    offered = {
        name
        for name in dir(zmq)
        if not name.startswith("_") and not isinstance(getattr(zmq, name), types.ModuleType)
    }
    assert offered - set(dir(green)) == set()


def test_sockets_and_contexts_are_pyzmqs(green, context):
    socket = context.socket(zmq.PULL)
    assert isinstance(socket, PlainSocket)
    assert isinstance(context, PlainContext)
    assert issubclass(green.Poller, zmq.sugar.poll.Poller)
    assert green.Context.instance() is green.Context.instance()
    assert type(green.Context.instance()) is green.Context
    green.Context.instance().term()


def test_a_socket_has_the_methods_of_pyzmqs_and_no_others(green):
    # `recv_into` came with pyzmq 26.4, and a program asks by hasattr.
    plain, offered = map(dir, (PlainSocket, green.Socket))
    assert {name for name in set(offered) ^ set(plain) if not name.startswith("_")} == set()


def test_the_classes_are_generic_as_pyzmqs(green: Any):
    def annotated(socket: "green.Socket[bytes]") -> "green.Context[green.Socket[bytes]]": ...

    assert green.Socket[bytes]
    assert green.Context[green.Socket[bytes]]
    assert typing.get_type_hints(annotated, localns={"green": green})


def test_a_subclass_that_skips_init_works(green: Any, endpoint):
    class Socket(green.Socket):
        def __init__(self, *args, **kwargs):
            PlainSocket.__init__(self, *args, **kwargs)

    class Context(green.Context):
        _socket_class = Socket

        def __init__(self, *args, **kwargs):
            PlainContext.__init__(self, *args, **kwargs)

    with Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        assert type(pull) is Socket
        pull.bind(endpoint)
        push.connect(pull.LAST_ENDPOINT.decode())
        waiting = gevent.spawn(pull.recv)
        all_blocked()
        push.send(b"x")
        assert waiting.get(timeout=5) == b"x"


def test_a_subclass_may_change_recv_and_send(green: Any, endpoint):
    class Shouting(green.Socket):
        def send(self, data, flags=0, copy=True, track=False, **kwargs):
            return super().send(bytes(data).upper(), flags, copy, track, **kwargs)

        def recv(self, flags=0, copy=True, track=False):
            return super().recv(flags, copy, track) + b"!"

    class Context(green.Context):
        _socket_class = Shouting

    with Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        pull.bind(endpoint)
        push.connect(pull.LAST_ENDPOINT.decode())
        for _ in range(2):  # with and without the short cuts
            push.send_multipart([b"a", b"b"])
            assert pull.recv_multipart() == [b"A!", b"B!"]


def test_shadows_share_the_socket_and_its_waiters(green, context, pair):
    receiver, sender = pair()
    shadow = green.Socket.shadow(receiver.underlying)
    waiting = [gevent.spawn(receiver.recv)]
    all_blocked()
    waiting.append(gevent.spawn(shadow.recv))
    all_blocked()
    for number in range(2):
        sender.send(b"%d" % number)
        get_original("time", "sleep")(0.02)
        shadow.get(zmq.EVENTS)  # eats the edge
    assert [greenlet.get(timeout=5) for greenlet in waiting] == [b"0", b"1"]
    again = green.Context.shadow(context.underlying)
    with again.socket(zmq.PULL) as other:
        assert isinstance(other, green.Socket)


def test_options_are_attributes_and_methods(pair):
    receiver, _ = pair()
    receiver.rcvtimeo = 7
    assert receiver.RCVTIMEO == receiver.getsockopt(zmq.RCVTIMEO) == receiver.get(zmq.RCVTIMEO) == 7
    receiver.setsockopt_string(zmq.IDENTITY, "me")
    assert receiver.getsockopt_string(zmq.IDENTITY) == "me"
    receiver.set_hwm(5)
    assert receiver.get_hwm() == 5
    with pytest.raises(AttributeError):
        receiver.no_such_option = 1


def test_the_end_of_a_with_block_closes(green):
    with green.Context() as context:
        with context.socket(zmq.PULL) as socket, socket.bind("inproc://x"):
            pass
        assert socket.closed
    assert context.closed


# Messages
FORMS = {
    "string": ("send_string", "recv_string", "grüße"),
    "json": ("send_json", "recv_json", {"a": [1, None]}),
    "pyobj": ("send_pyobj", "recv_pyobj", {"a": (1, 2)}),
    "multipart": ("send_multipart", "recv_multipart", [b"a", b"", b"c" * 100_000]),
    "frame": ("send", "recv", b"x" * 100_000),
    "empty": ("send", "recv", b""),
}


@pytest.mark.parametrize(("send", "recv", "value"), FORMS.values(), ids=list(FORMS))
def test_what_is_sent_arrives_with_and_without_a_wait(pair, send, recv, value):
    receiver, sender = pair()
    for _ in range(2):
        waiting = gevent.spawn(getattr(receiver, recv))
        all_blocked()
        getattr(sender, send)(value)
        assert waiting.get(timeout=5) == value
        getattr(sender, send)(value)
        assert getattr(receiver, recv)() == value


def test_serialisers_wait_too(pair):
    receiver, sender = pair()
    waiting = gevent.spawn(receiver.recv_serialized, lambda frames: pickle.loads(frames[0]))
    all_blocked()
    sender.send_serialized((1, 2), lambda value: [pickle.dumps(value)])
    assert waiting.get(timeout=5) == (1, 2)


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), zmq.Frame(b"abc")])
def test_any_buffer_can_be_sent(pair, data):
    receiver, sender = pair()
    sender.send(data)
    sender.send_multipart([data, b"d"])
    assert receiver.recv() == b"abc"
    assert receiver.recv_multipart() == [b"abc", b"d"]


def test_frames_are_received_without_a_copy(pair):
    receiver, sender = pair()
    for _ in range(2):
        waiting = gevent.spawn(receiver.recv_multipart, copy=False)
        all_blocked()
        sender.send_multipart([b"a", b"b"], copy=False)
        first, last = waiting.get(timeout=5)
        assert (first.bytes, first.more, last.bytes, last.more) == (b"a", True, b"b", False)


@pytest.mark.skipif(not hasattr(zmq.Socket, "recv_into"), reason="pyzmq before 26.4")
def test_recv_into_fills_a_buffer_with_and_without_a_wait(pair):
    receiver, sender = pair()
    buffer = bytearray(5)
    for _ in range(2):
        waiting = gevent.spawn(receiver.recv_into, buffer)
        all_blocked()
        sender.send(b"abc")
        assert waiting.get(timeout=5) == 3
        assert buffer == b"abc\0\0"


def test_frames_of_a_message_are_sent_and_received_one_by_one(pair):
    receiver, sender = pair()
    sender.send(b"a", zmq.SNDMORE)
    sender.send(b"b", zmq.SNDMORE)
    sender.send(b"c")
    assert [(receiver.recv(), receiver.getsockopt(zmq.RCVMORE)) for _ in range(3)] == [
        (b"a", 1),
        (b"b", 1),
        (b"c", 0),
    ]


def test_a_tracker_waits_in_the_hub_until_the_message_is_gone(pair, context):
    receiver, sender = pair()
    tracker = sender.send(b"x" * 100_000, copy=False, track=True)
    receiver.recv()
    tracker.wait(5)
    assert tracker.done
    ticks = []

    def tick():
        while True:
            ticks.append(1)
            gevent.sleep(0)

    alone = context.socket(zmq.PUSH)
    alone.connect("tcp://127.0.0.1:1")
    tracker = alone.send_multipart([b"y" * 100_000] * 2, copy=False, track=True)
    ticking = gevent.spawn(tick)
    with pytest.raises(zmq.NotDone):
        tracker.wait(0.01)
    ticking.kill()
    assert ticks
    alone.close(0)
    tracker.wait(5)


def test_nothing_is_read_ahead(pair):
    receiver, sender = pair()
    for number in range(3):
        sender.send(b"%d" % number)
    assert receiver.recv() == b"0"
    plain: PlainSocket[bytes] = PlainSocket.shadow(receiver.underlying)
    assert [plain.recv(), plain.recv()] == [b"1", b"2"]


def test_a_monitor_socket_is_green(green, context):
    from zmq.utils.monitor import recv_monitor_message

    socket = context.socket(zmq.PULL)
    monitor = socket.get_monitor_socket(zmq.EVENT_LISTENING)
    assert isinstance(monitor, green.Socket)
    waiting: gevent.Greenlet[..., Any] = gevent.spawn(recv_monitor_message, monitor)
    all_blocked()
    socket.bind("tcp://127.0.0.1:*")
    assert waiting.get(timeout=5)["event"] == zmq.EVENT_LISTENING
    socket.disable_monitor()


@pytest.mark.parametrize(
    ("receiving", "sending"),
    [(zmq.PAIR, zmq.PAIR), (zmq.DEALER, zmq.ROUTER), (zmq.REP, zmq.REQ), (zmq.XSUB, zmq.XPUB)],
)
def test_every_type_waits(pair, receiving, sending):
    receiver, sender = pair(receiving, sending)
    message = [b"x"]
    if sending == zmq.ROUTER:
        receiver.send(b"hello")
        message = [sender.recv_multipart()[0], b"x"]
    elif receiving == zmq.XSUB:
        while not sender.poll(10):  # libzmq forgets what is subscribed before the peer is there
            receiver.send(b"\1")
        assert sender.recv() == b"\1"
    waiting = gevent.spawn(receiver.recv)
    all_blocked()
    sender.send_multipart(message)
    assert waiting.get(timeout=5) == b"x"


def test_a_flood_in_both_directions_loses_nothing(pair):
    one, two = pair(zmq.DEALER, zmq.DEALER, sndhwm=10)
    count = 3000

    def send(socket):
        for number in range(count):
            socket.send_multipart([b"%d" % number, b"rest"])

    def receive(socket):
        return [int(socket.recv_multipart()[0]) for _ in range(count)]

    receiving = [gevent.spawn(receive, socket) for socket in (one, two)]
    sending = [gevent.spawn(send, socket) for socket in (one, two)]
    gevent.joinall(sending, timeout=20, raise_error=True)
    assert [greenlet.get(timeout=20) for greenlet in receiving] == [list(range(count))] * 2


def test_a_killed_recv_loses_no_message(pair):
    receiver, sender = pair()
    waiting = []
    for number in range(20):
        waiting.append(gevent.spawn(receiver.recv))
        all_blocked(1)
        waiting[-1].kill(block=False)
        sender.send(b"%d" % number)
    gevent.joinall(waiting)
    got = [one.value for one in waiting if isinstance(one.value, bytes)]
    while len(got) < 20:
        got.append(receiver.recv())
    assert got == [b"%d" % number for number in range(20)]


def test_a_timeout_around_a_send_that_waits_withdraws_it(context):
    push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    push.bind("inproc://nobody-yet")
    with gevent.Timeout(0.02, False):  # type: ignore[arg-type]  # as gevent documents
        push.send(b"withdrawn")
    sending = gevent.spawn(push.send, b"kept")
    all_blocked()
    pull.connect("inproc://nobody-yet")
    sending.join(5)
    assert pull.recv() == b"kept"
    assert not pull.poll(10)


# Ends


def test_a_lingering_close_and_term_do_not_hold_the_hub_up(green, tmp_path):
    context, endpoint = green.Context(), f"ipc://{tmp_path}/late"
    push = context.socket(zmq.PUSH)
    push.reconnect_ivl = 10
    push.connect(endpoint)
    push.send(b"delivered late")
    closing = gevent.spawn(push.close)
    ending = gevent.spawn(context.term)
    all_blocked(20)
    assert closing.dead
    assert not ending.dead
    with green.Context() as other, other.socket(zmq.PULL) as pull:
        pull.bind(endpoint)
        assert pull.recv() == b"delivered late"
        ending.get(timeout=20)
    assert context.closed


def test_two_greenlets_may_terminate_one_context(green):
    context = green.Context()
    socket = context.socket(zmq.PULL)
    ending = [gevent.spawn(context.term) for _ in range(2)]
    all_blocked()
    assert not any(greenlet.ready() for greenlet in ending)
    socket.close()
    gevent.joinall(ending, timeout=5, raise_error=True)
    assert context.closed


def test_a_killed_term_goes_on(green):
    context = green.Context()
    socket = context.socket(zmq.PULL)
    ending = gevent.spawn(context.term)
    all_blocked()
    ending.kill()
    socket.close()
    context.term()
    assert context.closed


def test_a_dropped_context_with_a_dropped_socket_is_collected(green):
    def drop():
        context = green.Context()
        context.socket(zmq.PULL)
        return weakref.ref(context)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        dropped = drop()
        gc.collect()
    assert dropped() is None


@pytest.mark.parametrize("kind", [zmq.PULL, zmq.PUSH, zmq.PAIR, zmq.REP, zmq.ROUTER, zmq.XPUB])
def test_a_closed_socket_leaves_no_reference_cycle(green, context, kind):
    socket = green.Context(shadow=context).socket(kind)
    assert not socket.poll(1, zmq.POLLERR)
    readiness = weakref.ref(socket._shared.readiness)
    gc.disable()
    try:
        socket.close()
        del socket
        all_blocked()
        assert readiness() is None
    finally:
        gc.enable()


def poll_closed(green, socket):
    socket.close()
    poller = green.Poller()
    poller.register(socket)
    with contextlib.suppress(zmq.ZMQError):
        poller.poll()


@pytest.mark.parametrize(
    "poll",
    [
        lambda green, socket: socket.poll(0),
        lambda green, socket: socket.poll(None, zmq.POLLOUT),
        lambda green, socket: green.zmq_poll([(socket, zmq.POLLIN)], 1),
        poll_closed,
    ],
)
def test_a_poll_leaves_no_reference_cycle(green, context, poll):
    socket = green.Context(shadow=context).socket(zmq.PUB)
    dropped = weakref.ref(socket)
    gc.disable()
    try:
        poll(green, socket)
        socket.close()
        del socket
        assert dropped() is None
    finally:
        gc.enable()


def test_a_send_to_one_peer_does_not_wait_for_another_that_is_full(context):
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    router.router_mandatory = True
    router.sndhwm = dealer.rcvhwm = 1
    dealer.routing_id = b"full"
    router.bind("inproc://router")
    dealer.connect("inproc://router")
    filling = gevent.spawn(lambda: [router.send_multipart([b"full", b"x"]) for _ in range(9)])
    gevent.sleep(10 * ManyWriters.confirm_after)  # it is not tried any more
    assert not filling.dead
    asking = gevent.spawn(router.send_multipart, [b"nobody", b"x"])
    asking.join(5)
    assert isinstance(asking.exception, zmq.ZMQError)
    assert asking.exception.errno == zmq.EHOSTUNREACH
    filling.kill()


def test_thousands_of_sockets_come_and_go(green):
    context = green.Context()
    for number in range(1000):
        with context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
            pull.bind(f"inproc://{number}")
            push.connect(f"inproc://{number}")
            push.send(b"x")
            assert pull.recv() == b"x"
    context.term()
    wait_until(lambda: context.closed)

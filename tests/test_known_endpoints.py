"""Endpoints: free when a call returns that gives them up, and known, all of them, at the end."""

import contextlib
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from helpers import closing, endpoint_of, free_ports, python_process

from gzmqsource import Source
from gzmqsource._socket.endpoints import Endpoints
from gzmqsource.testing import all_blocked, wait_until


@pytest.fixture
def address(transport, tmp_path):
    """An address that can be bound to again."""
    return {
        "inproc": "inproc://again",
        "ipc": f"ipc://{tmp_path}/again",
        "tcp": f"tcp://127.0.0.1:{free_ports(1)[0]}",
    }[transport]


@pytest.mark.usefixtures("long_release")
@pytest.mark.parametrize("kind", [zmq.PULL, zmq.PUSH, zmq.ROUTER, zmq.PUB])
@pytest.mark.parametrize("how", ["stop", "close"])
def test_an_endpoint_is_free_when_its_source_is_gone(context, address, kind, how):
    for _ in range(30):
        getattr(Source.open(kind, bind=address, context=context), how)()


@pytest.mark.usefixtures("long_release")
def test_an_endpoint_is_free_when_an_open_has_failed(context, address):
    for _ in range(30):
        with pytest.raises(zmq.ZMQError, match="it has no transport"):
            Source.open(zmq.PULL, bind=address, connect="nowhere", context=context)


@pytest.mark.usefixtures("long_release")
def test_an_endpoint_is_free_when_a_source_was_refused(context, address):
    for _ in range(30):
        with pytest.raises(TypeError, match="spawn="):
            Source.open(zmq.PULL, print, spawn="x", bind=address, context=context)  # type: ignore[call-overload]


@pytest.mark.usefixtures("long_release")
def test_an_endpoint_that_was_bound_later_is_free_too(context, address):
    for _ in range(30):
        with Source.open(zmq.PULL, context=context) as source:
            source.socket.bind(address)
            source.socket.bind("inproc://last")


def test_the_close_of_what_is_only_connected_waits_for_nothing(context):
    """A context that is terminated meanwhile would wait for who waits, whose hub it holds up."""
    with Source.open(zmq.ROUTER, bind="tcp://127.0.0.1:*", context=context) as server:
        for how in ("open", "socket"):
            address = endpoint_of(server).replace("127.0.0.1", "localhost")
            source = Source.open(
                zmq.DEALER, context=context, **({"connect": address} if how == "open" else {})
            )
            if how == "socket":
                source.socket.connect(address)
            closing_it = gevent.spawn(source.close)
            gevent.sleep(0)
            assert closing_it.dead


@pytest.mark.parametrize("how", ["stop", "close"])
def test_a_callback_of_the_hub_may_end_a_source(context, address, how, told):
    source = Source.open(zmq.PULL, print, bind=address, context=context)
    source.start()
    get_hub().loop.run_callback(getattr(source, how))
    wait_until(lambda: source.closed)
    assert not told


def test_a_context_may_be_destroyed_while_a_source_waits_for_its_end():
    context = zmq.Context()
    source = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    closing_it = gevent.spawn(source.close)
    gevent.sleep(0)
    context.destroy(0)
    closing_it.get(timeout=5)


@pytest.mark.parametrize("how", ["close", "stop"])
def test_a_context_may_end_while_another_greenlet_closes_a_source(how):
    """Its end holds up the hub, in which nothing may be left to close."""
    context: zmq.Context[Any] = zmq.Context()
    source = Source.open(zmq.PUSH, bind="tcp://127.0.0.1:*", context=context)
    closing_it = gevent.spawn(source.close if how == "close" else source.stop)
    wait_until(lambda: source.closed)
    context.term()
    closing_it.get(timeout=5)


def test_a_close_waits_for_no_peer(context):
    """What is sent lingers; the endpoint of a PUSH that is bound does not."""
    peer = context.socket(zmq.PULL)
    peer.rcvhwm = 1
    source = Source.open(zmq.PUSH, bind="tcp://127.0.0.1:*", context=context)
    peer.connect(endpoint_of(source))
    for _ in range(100):
        source.send(bytes(100_000))
    with gevent.Timeout(20):
        source.close()
    peer.close()


def test_a_killed_close_has_closed(context):
    source = Source.open(zmq.PUSH, bind="tcp://127.0.0.1:*", context=context, linger=0)
    closing_it = gevent.spawn(source.close)
    gevent.sleep(0)
    closing_it.kill()
    assert source.closed
    assert source.ready()


def test_a_stop_that_is_killed_while_libzmq_sends_counts_what_was_queued(context):
    source = Source.open(
        zmq.PUSH, connect="tcp://127.0.0.1:1", context=context, linger=300, sndhwm=1
    )
    for _ in range(5):
        source.send(b"x")
    queued = source.stats().outbox_depth
    stopping = gevent.spawn(source.stop, 1)
    wait_until(lambda: source.closed)
    all_blocked()
    stopping.kill()
    assert source.stats().dropped == {"unsent": queued}


def test_an_endpoint_may_be_bytes_as_in_pyzmq(context):
    open_: Any = Source.open
    with closing(open_(zmq.PUSH, connect=b"inproc://there", context=context)) as (source,):
        known = Endpoints.of(source._core.raw)
        source.socket.connect(b"tcp://127.0.0.1:1")
        assert list(known.connected) == ["inproc://there", "tcp://127.0.0.1:1"]
        source.socket.disconnect(b"inproc://there")
        assert list(known.connected) == ["tcp://127.0.0.1:1"]


def test_all_endpoints_are_known_and_those_given_up_are_not(context):
    with closing(Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)) as (source,):
        first = endpoint_of(source)
        source.socket.bind_to_random_port("tcp://127.0.0.1")
        second = endpoint_of(source)
        source.socket.connect("inproc://there")
        known = Endpoints.of(source._core.raw)
        assert list(known.bound) == [first, second]
        assert list(known.connected) == ["inproc://there"]
        source.socket.unbind(first)
        source.socket.disconnect("inproc://there")
        with source.socket.bind("inproc://here"):
            assert list(known.bound) == [second, "inproc://here"]
        assert list(known.bound) == [second]
        assert known.is_remote


#: Holds messages for tcp, was bound to inproc last, and ends.
LEAVING = """
import sys, zmq
from gzmqsource import Source
push = Source.open(zmq.PUSH, connect=sys.argv[1], sndhwm=0)
push.socket.bind("inproc://last")
for _ in range(2000):
    push.send(bytes(10_000))
push.stop(20)
"""


@pytest.mark.processes
def test_a_socket_that_was_bound_to_inproc_last_sends_what_it_holds(context):
    received = 0
    with (
        closing(Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)) as (pull,),
        python_process(LEAVING, endpoint_of(pull)),
        contextlib.suppress(gevent.queue.Empty),
    ):
        while received < 2000:
            received += len(pull.recv_many(100, timeout=5))
    assert received == 2000


def test_a_file_that_is_no_socket_is_not_replaced_by_one(context, tmp_path):
    file, link, folder = (tmp_path / name for name in ("file", "link", "folder"))
    file.write_text("precious")
    link.symlink_to(file)
    folder.mkdir()
    for path in file, link, folder:
        with pytest.raises(zmq.ZMQError, match=f"ipc://{path}: another file is there") as bad:
            Source.open(zmq.PULL, bind=f"ipc://{path}", context=context)
        assert bad.value.errno == zmq.EADDRINUSE
    assert file.read_text() == "precious"
    assert link.is_symlink()


def test_a_path_that_a_process_listens_on_is_not_taken_from_it(context, tmp_path):
    address = f"ipc://{tmp_path}/taken"
    program = (
        "import sys, zmq\n"
        "socket = zmq.Context().socket(zmq.REP)\n"
        "socket.bind(sys.argv[1])\n"
        "print('bound', flush=True)\n"
        "input()\n"
    )
    with python_process(program, address) as process:
        assert process.stdout.readline() == "bound\n"
        with pytest.raises(zmq.ZMQError, match=f"{address}: a socket is bound to this path") as bad:
            Source.open(zmq.PULL, bind=address, context=context)
        assert bad.value.errno == zmq.EADDRINUSE
        with (
            Source.open(zmq.PULL, context=context) as source,
            pytest.raises(zmq.ZMQError, match="is bound to this path"),
        ):
            source.socket.bind(address)
    assert (tmp_path / "taken").exists()  # it was killed, and has left a file
    with Source.open(zmq.PULL, bind=address, context=context) as source:
        assert endpoint_of(source) == address

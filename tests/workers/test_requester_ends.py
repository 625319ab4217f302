"""A peer that is lost, and the end of a `Requester`."""

import warnings

import gevent
import pytest
import zmq
from gevent.exceptions import BlockingSwitchOutError
from gevent.monkey import get_original
from helpers import endpoint_of, free_ports, in_the_hub, in_thread, line_of, python_process
from requesting import echo, ignore, requester_of, server_of

from gzmqsource import Source, SourceBroken, SourceClosed, SourceForked
from gzmqsource.testing import all_blocked, in_forked_child, wait_until
from gzmqsource.workers import PeerLost, Requester

start_thread = get_original("_thread", "start_new_thread")
native_sleep = get_original("time", "sleep")

SERVER = """
import sys, zmq
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind(sys.argv[1])
print(socket.LAST_ENDPOINT.decode(), flush=True)
answers = int(sys.argv[2])
while True:
    message = socket.recv_multipart()
    print("asked", flush=True)
    if answers:
        socket.send_multipart(message)
"""


def test_a_lost_peer_fails_its_requests(context):
    with (
        python_process(SERVER, "tcp://127.0.0.1:*", 0) as server,
        requester_of(line_of(server), context) as requester,
    ):
        result = requester.submit(b"x")
        assert line_of(server) == "asked"
        server.kill()
        server.wait()
        with pytest.raises(PeerLost):
            result.get(timeout=10)
        assert requester.stats().lost == 1


def test_a_lost_peer_makes_requests_ask_again(context):
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with python_process(SERVER, endpoint, 0) as server:
        assert line_of(server) == endpoint
        with requester_of(endpoint, context) as requester:
            result = requester.submit(b"x", retries=1)
            hopeless = requester.submit(b"y")
            foreign = []
            start_thread(lambda: foreign.append(requester.request(b"z", retries=1)), ())
            assert [line_of(server) for _ in range(3)] == ["asked"] * 3
            server.kill()
            server.wait()
            with pytest.raises(PeerLost):
                hopeless.get(timeout=10)
            with python_process(SERVER, endpoint, 1):
                assert result.get(timeout=10) == [b"x"]
                wait_until(lambda: foreign == [[b"z"]])
                stats = requester.stats()
                assert (stats.requests, stats.replies, stats.retries, stats.lost) == (3, 2, 2, 1)


def test_a_reply_that_came_before_the_connection_was_lost_counts(context):
    with zmq.Context() as others, others.socket(zmq.ROUTER) as server:
        server.linger = 5000
        server.bind("tcp://127.0.0.1:*")
        with requester_of(endpoint_of(server), context) as requester:
            asking = [gevent.spawn(requester.request, b"%d" % n, 10, 1) for n in range(20)]
            wait_until(lambda: requester.endpoints()[0].outstanding == 20)
            for _ in range(20):
                assert server.poll(5000)  # without the hub, which is not to see one of the replies
                server.send_multipart(server.recv_multipart())
            server.close()
            native_sleep(0.3)
            gevent.joinall(asking, timeout=10, raise_error=True)
            assert [each.value for each in asking] == [[b"%d" % n] for n in range(20)]
            assert requester.stats().retries == 0


def test_close_tells_everybody_who_waits(context):
    with server_of(context, ignore) as server:
        requester = Requester.open(endpoint_of(server), context=context, linger=0)
        asking = [gevent.spawn(requester.request, b"x") for _ in range(3)]
        foreign = []

        def ask():
            try:
                requester.request(b"x")
            except SourceClosed as error:
                foreign.append(error)

        start_thread(ask, ())
        wait_until(lambda: server.stats().received == 4)
        requester.close()
        for greenlet in asking:
            with pytest.raises(SourceClosed):
                greenlet.get(timeout=10)
        wait_until(lambda: foreign)
        with pytest.raises(SourceClosed):
            requester.request(b"x")


def test_a_destroyed_context_breaks_the_requests(context):
    # The server has a context of its own: that it ends would be a lost peer.
    destroyed = zmq.Context()
    with server_of(context, ignore) as server:
        requester = Requester.open(
            endpoint_of(server), context=destroyed, on_error=lambda error, message: None
        )
        result = requester.submit(b"x")
        wait_until(lambda: server.stats().received)
        destroyed.destroy(linger=0)
        with pytest.raises(SourceBroken):
            result.get(timeout=10)
        assert requester.closed
        with pytest.raises(SourceBroken):
            requester.request(b"x")


def test_stop_waits_for_what_is_outstanding(context):
    def later(server, message):
        gevent.spawn_later(0.05, server.send, message)

    with server_of(context, later) as server:
        requester = Requester.open(endpoint_of(server), context=context)
        result = requester.submit(b"x")
        stopping = gevent.spawn(requester.stop, 10)
        all_blocked()
        with pytest.raises(SourceClosed):
            requester.request(b"y")
        assert stopping.get() == 0
        assert result.get() == [b"x"]
        assert requester.closed


def test_stop_tells_how_many_were_not_answered(context):
    with server_of(context, ignore) as server:
        requester = Requester.open(endpoint_of(server), context=context, linger=0)
        results = [requester.submit(b"x") for _ in range(3)]
        assert requester.stop(timeout=0.05) == 3
        for result in results:
            with pytest.raises(SourceClosed):
                result.get(timeout=10)


def test_a_stop_in_a_callback_of_the_hub_that_would_have_to_wait_changes_nothing(context):
    held: list[tuple[Source, list[bytes]]] = []
    with server_of(context, lambda *asked: held.append(asked)) as server:
        requester = Requester.open(endpoint_of(server), context=context)
        result = requester.submit(b"x")
        with pytest.raises(BlockingSwitchOutError, match=r"gevent\.spawn\(requester\.stop\)"):
            in_the_hub(requester.stop)
        other = requester.submit(b"y")
        wait_until(lambda: len(held) == 2)
        for source, message in held:
            source.send(message)
        assert result.get(timeout=10) == [b"x"]
        assert other.get(timeout=10) == [b"y"]
        assert in_the_hub(requester.stop) == 0
        assert requester.closed


def test_a_refused_requester_leaves_no_socket_open():
    context = zmq.Context()
    with pytest.raises(zmq.ZMQError):
        Requester.open(["tcp://127.0.0.1:1", "tcp://127.0.0.1"], context=context)
    all_blocked()
    context.term()


def test_no_request_of_a_thread_that_has_ended_is_outstanding(context):
    made: list[Requester] = []
    outcomes = []

    def ask():
        try:
            made[0].request(b"of another thread")
        except SourceClosed as error:
            outcomes.append(error)

    def own(endpoint):
        requester = Requester.open(endpoint, context=context, linger=0, max_outstanding=3)
        made.append(requester)
        requester.submit(b"submitted")
        gevent.spawn(requester.request, b"of a greenlet")
        start_thread(ask, ())
        wait_until(lambda: requester.stats().outstanding == 3)
        gevent.spawn(requester.request, b"that waits for room")
        wait_until(lambda: requester.stats().outstanding == 4)

    with server_of(context, ignore) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it was left open
        in_thread(own, endpoint_of(server))
        wait_until(lambda: outcomes)
        stats = made[0].stats()
        assert (stats.requests, stats.outstanding, stats.waiting, stats.failed) == (4, 0, 0, 4)
        assert made[0].closed


def test_a_forked_child_is_told_and_the_parent_goes_on(context):
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        waiting = requester.submit(b"x")

        def child():
            for use in (requester.request, requester.submit):
                with pytest.raises(SourceForked):
                    use(b"x")
            requester.close()
            assert requester.stop() >= 0
            assert requester.closed

        in_forked_child(child)
        assert waiting.get(timeout=10) == [b"x"]
        assert requester.request(b"y", timeout=10) == [b"y"]

"""What a requester says to a responder, and makes of what that says: docs/protocol.rst."""

import logging
import os

import gevent
import pytest
import zmq
from helpers import free_ports, unique_inproc
from requesting import requester_of
from requesting import server_of as plain_server_of
from scripted import NO_KEY, Scripted, echo

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, RemoteError, Requester, RequestTimeout
from gzmqsource.workers._header import MAGIC, Detail, Flag, Header, Kind, decode


def state_of(requester):
    """Return the state of the only connection."""
    (connection,) = requester.endpoints()
    return connection.state


def test_a_request_says_how_much_time_it_has_and_whether_it_may_come_again(context):
    with Scripted(context, echo) as server, requester_of(server.endpoint, context) as requester:
        requester.request(b"x")
        requester.request(b"x", timeout=5)
        requester.request(b"x", retries=2)
        endless, timed, kept = (ask.header for ask in server.asks)
        assert endless == Header(Kind.ASK, endless.key)
        assert 4000 < timed.left <= 5000
        assert (kept.flags, kept.attempt, kept.left) == (Flag.KEEP, 0, 0)
        assert len({endless.key, timed.key, kept.key}) == 3


def test_what_has_waited_for_a_server_says_what_is_left_of_its_time(context):
    with requester_of("inproc://later", context, max_outstanding=1) as requester:
        first = requester.submit(b"first", timeout=20)
        second = gevent.spawn(requester.request, b"second", 10)
        wait_until(lambda: requester.stats().waiting == 1)
        gevent.sleep(0.05)
        with Scripted(context, echo, "inproc://later") as server:
            assert first.get(timeout=10) == [b"first"]
            assert second.get(timeout=10) == [b"second"]
            assert server.asks[1].header.left < 9960


def test_a_speaker_is_known_by_its_first_header(context):
    with Scripted(context, echo) as server, requester_of(server.endpoint, context) as requester:
        assert not requester.endpoints()[0].speaks
        requester.request(b"x")
        wait_until(lambda: requester.endpoints()[0].speaks)
        assert requester.endpoints()[0].session == 7


def test_a_speaker_is_pinged_as_soon_as_it_is_known_and_once_for_each_connection(context):
    """It notices from then on that this process is dead."""
    with (
        Scripted(context, echo) as server,
        requester_of(server.endpoint, context, dead_after=1000) as requester,
    ):
        for _ in range(10):
            requester.request(b"x")
        wait_until(lambda: Kind.PING in server.kinds)
        assert server.kinds[:2] in ([Kind.ASK, Kind.PING], [Kind.ASK, Kind.ASK])
        endpoint = server.endpoint
        server.close()
        wait_until(lambda: state_of(requester) == "connecting")
        with Scripted(context, echo, endpoint) as again:
            for _ in range(10):
                requester.request(b"x")
            assert again.kinds.count(Kind.PING) == 1
    assert server.kinds.count(Kind.PING) == 1


def test_a_speaker_behind_a_router_is_not_pinged_for_that(context):
    with (
        Scripted(context, echo, flags=Flag.ROUTED) as server,
        requester_of(server.endpoint, context, dead_after=1000) as requester,
    ):
        for _ in range(10):
            requester.request(b"x")
        assert requester.endpoints()[0].speaks
        assert server.kinds == [Kind.ASK] * 10


def test_nothing_but_requests_goes_to_a_plain_server(context):
    seen = []

    def note(server, message):
        seen.append(message)

    with (
        plain_server_of(context, note) as server,
        requester_of(server, context, dead_after=0.02) as requester,
    ):
        wait_until(lambda: state_of(requester) == "live")  # else it may never be sent
        with pytest.raises(RequestTimeout):
            requester.request(b"x", timeout=0.1)
        killed = gevent.spawn(requester.request, b"y")
        wait_until(lambda: len(seen) == 2)
        killed.kill()
        requester.close()
    gevent.sleep(0.05)
    assert [message[-1] for message in seen] == [b"x", b"y"]


@pytest.mark.usefixtures("adopting")
@pytest.mark.parametrize("how", ["kill", "timeout", "gevent timeout", "thread"])
def test_a_caller_that_leaves_cancels(context, how):
    with Scripted(context) as server, requester_of(server.endpoint, context) as requester:
        speaks = requester.submit(b"first")
        wait_until(lambda: requester.endpoints()[0].speaks)
        if how == "kill":
            caller = gevent.spawn(requester.request, b"x")
            wait_until(lambda: len(server.asks) == 2)
            caller.kill()
        elif how == "timeout":
            with pytest.raises(RequestTimeout, match="no reply"):
                requester.request(b"x", timeout=0.05)
        elif how == "thread":
            with pytest.raises(RequestTimeout, match="no reply"):
                gevent.get_hub().threadpool.apply(requester.request, (b"x", 0.05))
        else:
            with gevent.Timeout(0.05, False):  # type: ignore[arg-type]  # as gevent documents
                requester.request(b"x")
        wait_until(lambda: server.keys(Kind.CANCEL))
        assert server.keys(Kind.CANCEL) == [server.asks[1].header.key]
        stats = requester.stats()
        assert stats.outstanding == 1
        assert stats.timeouts + stats.cancelled == 1
        assert not speaks.ready()


def test_a_caller_that_leaves_before_the_first_pong_cancels_when_it_has_come(context):
    with Scripted(context) as server, requester_of(server.endpoint, context) as requester:
        server.pongs = False
        caller = gevent.spawn(requester.request, b"x")
        wait_until(lambda: server.asks)
        caller.kill()
        gevent.sleep(0.02)
        assert server.controls == []
        server.tell(Kind.PONG)
        wait_until(lambda: server.keys(Kind.CANCEL) == [server.asks[0].header.key])


@pytest.mark.parametrize("way", [Requester.close, lambda requester: requester.stop(0.01)])
def test_the_end_of_a_requester_cancels_all(context, way):
    with Scripted(context) as server:
        requester = Requester.open(server.endpoint, context=context)
        results = [requester.submit(b"x") for _ in range(5)]
        wait_until(lambda: requester.endpoints()[0].speaks)
        way(requester)
        wait_until(lambda: server.keys(Kind.CANCEL) == [NO_KEY])
        gevent.wait(results, timeout=10)
        assert all(isinstance(each.exception, Exception) for each in results)
        assert requester.stats().failed == 5


def test_an_error_of_the_handler_is_raised(context):
    def fail(server, ask):
        server.reply(ask, [b"KeyError", b"'\xff'", b"somewhere"][: len(ask.payload)], Kind.ERROR)

    with Scripted(context, fail) as server, requester_of(server.endpoint, context) as requester:
        with pytest.raises(RemoteError, match="KeyError: '\N{REPLACEMENT CHARACTER}'") as caught:
            requester.request([b"1", b"2", b"3"])
        assert caught.value.traceback == "somewhere"
        with pytest.raises(RemoteError, match=r"(?m)KeyError: $") as caught:
            requester.request([b"1"])
        assert caught.value.traceback is None


def test_a_reply_counts_only_from_the_server_that_was_asked(context):
    with (
        Scripted(context) as one,
        Scripted(context) as other,
        requester_of([one.endpoint, other.endpoint], context) as requester,
    ):
        wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
        results = [requester.submit(b"%d" % number) for number in range(2)]
        wait_until(lambda: one.asks and other.asks)
        stolen = one.asks[0]._replace(route=other.asks[0].route)
        other.reply(stolen, [b"wrong"])
        wait_until(lambda: requester.stats().late == 1)
        assert not any(each.ready() for each in results)
        for server in (one, other):
            server.reply(server.asks[0])
        assert [each.get(timeout=10) for each in results] == [[b"0"], [b"1"]]


def test_a_duplicate_is_late_and_garbage_is_counted(context, caplog):
    garbage = [
        [b"x" * 32],
        [b"", b"x"],
        [MAGIC],
        [MAGIC + os.urandom(28)],
        [MAGIC + bytes([Kind.JOIN]) + bytes(27)],
        [MAGIC + bytes([22]) + bytes(27)],
        [MAGIC + bytes([31]) + bytes(27)],
        [MAGIC + bytes([Kind.REPLY]) + bytes(27)],
        [MAGIC + bytes([Kind.PONG]) + bytes(27), b"", b"x"],
        [MAGIC + bytes([Kind.REPLY]) + bytes(27), b""],
        [MAGIC + bytes([Kind.REPLY]) + bytes(27), b"x", b"y"],
    ]
    garbage[3][0] = garbage[3][0][:4] + b"\xff" + garbage[3][0][5:]
    with Scripted(context) as server, requester_of(server.endpoint, context) as requester:
        result = requester.submit(b"x")
        wait_until(lambda: server.asks)
        with caplog.at_level(logging.WARNING):
            for each in garbage:
                server.source.send([server.asks[0].route[0], *each])
            server.reply(server.asks[0])
            server.reply(server.asks[0])
            assert result.get(timeout=10) == [b"x"]
            wait_until(lambda: requester.stats().late == 1)
        assert requester.stats().unknown == len(garbage)
        assert len(caplog.records) == 1


def test_what_ends_an_earlier_attempt_ends_no_later_one(context):
    with Scripted(context) as server, requester_of(server.endpoint, context) as requester:
        result = requester.submit(b"x", retries=1)
        wait_until(lambda: server.asks)
        server.end(server.asks[0], Kind.LOST)
        wait_until(lambda: len(server.asks) == 2)
        server.end(server.asks[0], Kind.LOST)
        server.reply(server.asks[0], [b"of the first"])
        assert result.get(timeout=10) == [b"of the first"]
        assert [ask.header.attempt for ask in server.asks] == [0, 1]
        assert server.asks[0].header.key == server.asks[1].header.key


def test_a_handler_that_was_ended_is_told_at_once(context):
    with Scripted(context) as server, requester_of(server.endpoint, context) as requester:
        result = requester.submit(b"x")
        wait_until(lambda: server.asks)
        server.end(server.asks[0], Kind.LOST, Detail.KILLED)
        with pytest.raises(PeerLost, match=r"its handler at .* was ended or lost"):
            result.get(timeout=10)
        assert requester.stats().lost == 1


def test_nothing_is_asked_of_a_server_that_leaves_and_what_it_has_ends_as_it_would(context):
    with Scripted(context) as leaving, Scripted(context, echo) as other:
        with requester_of(leaving.endpoint, context) as requester:
            result = requester.submit(b"x")
            wait_until(lambda: requester.endpoints()[0].speaks)
            leaving.tell(Kind.LEAVING)
            wait_until(lambda: Kind.NOMORE in leaving.kinds)
            assert {c.session for c in leaving.controls if c.kind == Kind.NOMORE} == {7}
            assert state_of(requester) == "leaving"
            waiting = requester.submit(b"y")
            gevent.sleep(0.2)
            assert len(leaving.asks) == 1
            assert requester.stats().waiting == 1
            leaving.reply(leaving.asks[0])
            assert result.get(timeout=10) == [b"x"]
            after = leaving.kinds[leaving.kinds.index(Kind.NOMORE) :]
            assert Kind.ASK not in after
            leaving.close()
            with Scripted(context, echo, leaving.endpoint, session=8):
                assert waiting.get(timeout=10) == [b"y"]
        assert other.asks == []


@pytest.mark.parametrize("has_outstanding", [True, False])
@pytest.mark.parametrize("comes_at_once", [True, False])
def test_a_server_that_has_left_is_followed_by_another_within_the_process(
    context, has_outstanding, comes_at_once
):
    """libzmq does not report there that the first one is gone."""
    address = unique_inproc()
    with (
        Scripted(context) as beside,
        Scripted(context, endpoint=address) as leaving,
        requester_of(address, context, dead_after=0.1) as requester,
        requester_of([address, beside.endpoint], context, dead_after=0.1) as other,
    ):
        result = requester.submit(b"first")
        wait_until(lambda: requester.endpoints()[0].speaks)
        if not has_outstanding:
            leaving.reply(leaving.asks[0])
            assert result.get(timeout=10) == [b"first"]
        wait_until(lambda: all(each.state == "live" for each in other.endpoints()))
        results = [other.submit(b"beside") for _ in range(2)]
        wait_until(lambda: all(each.speaks for each in other.endpoints()))
        leaving.tell(Kind.LEAVING)
        wait_until(lambda: leaving.kinds.count(Kind.NOMORE) == 2)
        for server in (leaving, beside):
            server.reply(server.asks[-1])
        assert [each.get(timeout=10) for each in results] == [[b"beside"]] * 2
        if has_outstanding:
            leaving.reply(leaving.asks[0])
            assert result.get(timeout=10) == [b"first"]
        leaving.close()
        waiting = requester.submit(b"second")
        if not comes_at_once:
            wait_until(lambda: state_of(requester) == "probing")
            assert other.endpoints()[0].state != "live"
        with Scripted(context, echo, address, session=8) as successor:
            assert waiting.get(timeout=10) == [b"second"]
            wait_until(lambda: all(each.state == "live" for each in other.endpoints()))
            assert [ask.payload for ask in successor.asks] == [[b"second"]]


def test_a_server_that_takes_long_to_leave_is_asked_nothing_within_the_process(context):
    with (
        Scripted(context, echo, unique_inproc()) as leaving,
        requester_of(leaving.endpoint, context, dead_after=0.02) as requester,
    ):
        requester.request(b"x", timeout=10)
        wait_until(lambda: requester.endpoints()[0].speaks)
        wait_until(lambda: not requester._dispatcher.liveness._watched)
        leaving.tell(Kind.LEAVING)
        wait_until(lambda: state_of(requester) == "leaving")
        waiting = requester.submit(b"y")
        leaving.pongs = False
        before = leaving.kinds.count(Kind.PING)
        wait_until(lambda: leaving.kinds.count(Kind.PING) > before + 20)
        assert state_of(requester) == "leaving"
        assert len(leaving.asks) == 1
        leaving.close()
        with Scripted(context, echo, leaving.endpoint, session=8):
            assert waiting.get(timeout=10) == [b"y"]


def test_behind_a_router_others_are_asked_after_a_short_hold(context):
    with (
        Scripted(context, flags=Flag.ROUTED) as server,
        requester_of(server.endpoint, context) as requester,
    ):
        requester.submit(b"x")
        wait_until(lambda: requester.endpoints()[0].speaks)
        server.tell(Kind.LEAVING)
        wait_until(lambda: state_of(requester) == "leaving")
        held = requester.submit(b"y")
        gevent.sleep(0.05)
        assert len(server.asks) == 1
        wait_until(lambda: len(server.asks) == 2)
        server.reply(server.asks[1])
        assert held.get(timeout=10) == [b"y"]
        assert state_of(requester) == "live"


def test_a_server_that_was_started_anew_has_lost_what_it_had(context):
    with Scripted(context) as server, requester_of(server.endpoint, context) as requester:
        lost = requester.submit(b"x")
        again = requester.submit(b"y", retries=1)
        wait_until(lambda: requester.endpoints()[0].session == 7)
        server.session = 8
        server.tell(Kind.PONG)
        with pytest.raises(PeerLost, match="was started again"):
            lost.get(timeout=10)
        wait_until(lambda: len(server.asks) == 3)
        server.reply(server.asks[2])
        assert again.get(timeout=10) == [b"y"]


def test_sessions_of_others_behind_a_router_mean_nothing(context):
    with (
        Scripted(context, flags=Flag.ROUTED) as server,
        requester_of(server.endpoint, context) as requester,
    ):
        result = requester.submit(b"x")
        wait_until(lambda: requester.endpoints()[0].session == 7)
        server.session = 8
        server.tell(Kind.PONG)
        wait_until(lambda: requester.endpoints()[0].session == 8)
        server.reply(server.asks[0])
        assert result.get(timeout=10) == [b"x"]


def test_a_bound_requester_asks_whoever_connects_and_hears_refusals(context):
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with Requester.open(bind=address, context=context, linger=0) as requester:
        result = requester.submit(b"x")
        assert requester.stats().waiting == 1
        worker = context.socket(zmq.ROUTER)
        worker.connect(address)

        def taken():
            return worker.poll(0) and worker.recv_multipart()

        route, head, _, _ = wait_until(taken)
        asked = decode(head)
        refused = Header(Kind.REFUSED, asked.key, detail=Detail.FULL, session=3)
        worker.send_multipart([route, refused.encode()])
        route, head, _, payload = wait_until(taken)
        assert decode(head) == asked._replace(attempt=1)
        worker.send_multipart([route, head, b"", payload])
        assert result.get(timeout=10) == [b"x"]
        lost = requester.submit(b"y")
        wait_until(taken)
        worker.close(0)
        with pytest.raises(PeerLost):
            lost.get(timeout=10)

"""`Requester` against servers of plain ZeroMQ."""

import gc
import logging
import random
import threading
from typing import Any

import gevent
import pytest
import zmq
from gevent.event import AsyncResult
from gevent.monkey import get_original
from requesting import echo, ignore, requester_of, server_of

from gzmqsource import InvalidThreadUseError, Source
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import RemoteError, Requester, RequestTimeout
from gzmqsource.workers._envelope import ERROR

start_thread = get_original("_thread", "start_new_thread")
get_ident = get_original("_thread", "get_ident")

native_sleep = get_original("time", "sleep")


def answering_from_the_third(seen):
    """Make what collects the messages, and answers the third of them and those behind it."""

    def handle(server, message):
        seen.append(message)
        if len(seen) >= 3:
            server.send(message)

    return handle


def test_a_rep_of_any_kind_answers(context, endpoint):
    with (
        server_of(context, echo, zmq.REP, endpoint) as server,
        requester_of(server, context) as requester,
    ):
        assert requester.request(b"one") == [b"one"]
        assert requester.request([b"a", b"", b"c"]) == [b"a", b"", b"c"]
        assert requester.request(bytearray(b"x"), timeout=10) == [b"x"]


def test_each_greenlet_gets_its_own_reply_in_any_order(context):
    asked = []

    def answer_backwards(server, message):
        asked.append(message)
        if len(asked) == 100:
            for each in reversed(asked):
                server.send(each)

    with (
        server_of(context, answer_backwards) as server,
        requester_of(server, context) as requester,
    ):
        asking = [gevent.spawn(requester.request, b"%d" % n, 10) for n in range(100)]
        gevent.joinall(asking, raise_error=True)
        assert [greenlet.value for greenlet in asking] == [[b"%d" % n] for n in range(100)]
        assert requester.stats().outstanding == 0


@pytest.mark.limit(60)
@pytest.mark.once
def test_10000_requests_at_once_with_random_delays_and_drops(context):
    chance, count = random.Random(1), 10_000
    dropped = set(chance.sample(range(count), count // 10))

    def answer(server, message):
        if int(message[-1]) not in dropped:
            gevent.spawn_later(0.001 + chance.random() / 2, server.send, message)

    with (
        server_of(context, answer) as server,
        requester_of(server, context) as requester,
    ):
        results = [
            requester.submit(b"%d" % n, timeout=1 if n in dropped else None) for n in range(count)
        ]
        gevent.joinall(results)
        for n, result in enumerate(results):
            if n in dropped:
                assert isinstance(result.exception, RequestTimeout)
            else:
                assert result.value == [b"%d" % n]
        stats = requester.stats()
        assert (stats.outstanding, stats.timeouts) == (0, len(dropped))
        assert stats.unknown == stats.late == 0


def test_a_timeout_leaves_nothing_behind(context):
    with (
        server_of(context, ignore) as server,
        requester_of(server, context) as requester,
    ):
        try:
            requester.request(b"x", timeout=0.05)
        except RequestTimeout as error:
            assert "no reply within 0.05 s" in str(error)  # noqa: PT017 - a kept one has frames
        assert requester.stats() == (1, 0, 0, 1, 0, 0, 0)
        all_blocked()  # the hub is still in the callback that has told it
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each).__name__ == "Call"]


def test_a_request_that_is_still_queued_is_withdrawn_by_its_timeout(context):
    source = Source.open(
        zmq.DEALER, connect="tcp://127.0.0.1:1", context=context, linger=0, immediate=1
    )
    with Requester(source) as requester:
        results = [requester.submit(b"x", timeout=0.05) for _ in range(5)]
        gevent.wait(results, timeout=10)
        for result in results:
            with pytest.raises(RequestTimeout, match="never sent"):
                result.get()
        assert source.stats().outbox_depth == 0


def test_a_full_outbox_ends_in_the_timeout_too(context):
    with requester_of("tcp://127.0.0.1:1", context, immediate=1) as requester:
        for _ in range(1000):
            requester.submit(b"x")
        with pytest.raises(RequestTimeout, match="no room"):
            requester.request(b"x", timeout=0.05)
        assert requester.stats().outstanding == 1000


def test_a_retry_gets_the_reply(context):
    seen: list[list[bytes]] = []
    with (
        server_of(context, answering_from_the_third(seen)) as server,
        requester_of(server, context) as requester,
    ):
        assert requester.request(b"x", timeout=0.05, retries=1000) == [b"x"]
        assert seen[0] == seen[1] == seen[2]
        assert requester.stats().retries >= 2  # more if the first answer has taken its time


def test_late_and_duplicate_and_unknown_replies_are_counted_and_dropped(context, caplog):
    asked = []

    def answer_twice(server, message):
        asked.append(message)
        server.send(message)
        server.send(message)
        for stray in ([b"stray"], [b"", b"x"], [b""], [b"a", b"", b""], [b"z"] * 10_000):
            server.send([message[0], *stray])

    with (
        server_of(context, answer_twice) as server,
        requester_of(server, context) as requester,
        caplog.at_level(logging.WARNING),
    ):
        assert requester.request(b"x") == [b"x"]
        wait_until(lambda: requester.stats().unknown == 5)
        assert requester.stats().late == 1
        assert requester.request(b"y") == [b"y"]
        assert len([r for r in caplog.records if "answers nothing" in r.message]) == 1


def test_a_reply_to_another_requester_with_the_same_routing_id_does_not_fit(context):
    kept = []
    with server_of(
        context, lambda server, message: kept.append(message), router_handover=1
    ) as server:
        with requester_of(server, context, routing_id=b"me") as first:
            first.submit(b"old")
            wait_until(lambda: kept)
        with requester_of(server, context, routing_id=b"me") as second:
            result = second.submit(b"new")
            wait_until(lambda: len(kept) == 2)
            server.send(kept[0])
            server.send(kept[1])
            assert result.get(timeout=10) == [b"new"]
            assert second.stats().unknown == 1


def test_a_killed_greenlet_forgets_its_request(context):
    with (
        server_of(context, ignore) as server,
        requester_of(server, context) as requester,
    ):
        asking: gevent.Greenlet[..., Any] = gevent.spawn(requester.request, b"x", 60)
        wait_until(lambda: server.stats().received == 1)
        asking.kill()
        assert requester.stats().outstanding == 0
        asking = gevent.spawn(requester.request, b"x")
        wait_until(lambda: server.stats().received == 2)
        with gevent.Timeout(0.01, False):  # type: ignore[arg-type]  # as gevent documents
            asking.get()
        asking.kill()
        assert requester.stats().outstanding == 0


def test_native_threads_and_other_hubs_ask_through_it(context):
    with (
        server_of(context, echo) as server,
        requester_of(server, context) as requester,
    ):
        replies = []

        def ask(name):
            for number in range(100):
                body = b"%s %d" % (name, number)
                replies.append(requester.request(body, timeout=10) == [body])

        def ask_from_a_hub():
            gevent.joinall([gevent.spawn(ask, b"g%d" % n) for n in range(3)])
            gevent.get_hub().destroy(destroy_loop=True)

        for thread in range(3):
            start_thread(ask, (b"t%d" % thread,))
        start_thread(ask_from_a_hub, ())
        wait_until(lambda: len(replies) == 600)
        assert all(replies)
        assert requester.stats().outstanding == 0


def test_a_native_thread_has_timeouts_and_retries(context):
    seen: list[list[bytes]] = []
    with (
        server_of(context, answering_from_the_third(seen)) as server,
        requester_of(server, context) as requester,
        requester_of("tcp://127.0.0.1:1", context) as lonely,
    ):
        outcomes = []

        def ask():
            outcomes.append(requester.request(b"x", timeout=0.05, retries=1000))
            try:
                lonely.request(b"y", timeout=0.05)
            except RequestTimeout as error:
                outcomes.append(error)

        start_thread(ask, ())
        wait_until(lambda: len(outcomes) == 2)
        assert outcomes[0] == [b"x"]
        assert isinstance(outcomes[1], RequestTimeout)
        assert requester.stats().retries >= 2
        assert lonely.stats()[:4] == (1, 0, 0, 1)


def test_a_native_thread_never_touches_the_socket(context, monkeypatch):
    asked = []
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        this = get_ident()
        get = zmq.Socket.get

        def noted(socket, option):
            if get_ident() != this:
                asked.append(option)
            return get(socket, option)

        monkeypatch.setattr(zmq.Socket, "get", noted)
        done = []

        def ask():
            requester.request(b"x", timeout=10)
            try:
                requester.submit(b"x")
            except InvalidThreadUseError:
                done.append(True)

        start_thread(ask, ())
        wait_until(lambda: done)
        assert asked == []


def test_submit_belongs_to_its_hub(context):
    with (
        server_of(context, ignore) as server,
        requester_of(server, context) as requester,
    ):
        assert isinstance(requester.submit(b"x"), AsyncResult)
        outcome = []

        def submit():
            try:
                requester.submit(b"x")
            except InvalidThreadUseError as error:
                outcome.append(error)

        start_thread(submit, ())
        wait_until(lambda: outcome)


def test_a_remote_error_is_raised(context):
    def fail(server, message):
        server.send([*message[:3], ERROR, b"KeyError", b"'\xff'", b"somewhere"])

    with (
        server_of(context, fail) as server,
        requester_of(server, context) as requester,
        pytest.raises(RemoteError, match="KeyError: '\N{REPLACEMENT CHARACTER}'") as caught,
    ):
        requester.request(b"x")
    assert caught.value.traceback == "somewhere"


def test_bad_input_is_refused_and_costs_nothing(context):
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        for arguments, error in [
            (("text",), TypeError),
            (([],), ValueError),
            (([b"x", 5],), TypeError),
            ((b"x", -1), ValueError),
            ((b"x", 1, -1), ValueError),
            ((b"x", 1, 1.5), ValueError),
        ]:
            with pytest.raises(error):
                requester.request(*arguments)
        assert requester.stats() == (0,) * 7
    pull = Source.open(zmq.PULL, bind="inproc://pull", context=context)
    with pytest.raises(ValueError, match="asks through a DEALER"):
        Requester(pull)
    pull.close()
    with pytest.raises(ValueError, match="lost='never'"):
        Requester.open("tcp://127.0.0.1:1", context=context, linger=0, lost="never")  # type: ignore[arg-type]


def test_a_thread_of_the_threading_module_may_ask(context):
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        replies = []
        thread = threading.Thread(target=lambda: replies.append(requester.request(b"x", 10)))
        thread.start()
        wait_until(lambda: replies == [[b"x"]])
        thread.join()


def test_its_repr_tells_what_it_waits_for(context):
    with server_of(context, ignore) as server, requester_of(server, context) as requester:
        requester.submit(b"x")
        assert repr(requester).startswith("<Requester 1 outstanding, over <Source DEALER tcp://")

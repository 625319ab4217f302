"""What a collector answers, and holds, when sources come and go."""

import gc
import itertools
import random
import threading
import tracemalloc

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from helpers import closing, endpoint_of
from prometheus_client import generate_latest

from gzmqsource import Source
from gzmqsource._socket.reports import _reader
from gzmqsource.auth import Authenticator
from gzmqsource.metrics import SourceCollector
from gzmqsource.monitor import Monitor
from gzmqsource.proxy import Proxy
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import RemoteError, Requester, Responder

START_NATIVE_THREAD = get_original("_thread", "start_new_thread")

numbers = itertools.count()


def series(registry, suffix="_total"):
    """All series of counters, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.endswith(suffix) and sample.name.startswith("gzmqsource_")
    }


def bound(context, **options):
    """A source with an endpoint that no other has."""
    return Source.open(
        zmq.PULL, bind=f"inproc://growth-{next(numbers)}", context=context, **options
    )


def open_and_close(context, count):
    with bound(context) as watched:
        for index in range(count):
            Monitor(watched).close()
            bound(context, handle=print).close()
            if not index % 50 or index == count - 1:
                wait_until(lambda: not _reader._reports)  # their sockets are closed by a thread
                all_blocked()  # which has notified the hub of each


@pytest.mark.once
@pytest.mark.limit(120)
def test_neither_the_answer_nor_the_memory_grows_with_what_has_closed(context, registry, collector):
    collector.max_ended = 100
    tracemalloc.start()
    try:
        # Traced, too: each that ends later takes the place of one of these.
        open_and_close(context, 200)
        size = len(generate_latest(registry))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            open_and_close(context, 200)
            assert len(generate_latest(registry)) < size + 200
        gc.collect()
        # Of 1200 sources; what is kept of one is 500 bytes at least.
        assert tracemalloc.get_traced_memory()[0] - before < 120_000
    finally:
        tracemalloc.stop()


def test_without_a_collection_closed_sources_do_not_pile_up(context, registry, collector):
    collector.max_ended = 10
    for _ in range(50):
        bound(context).close()
    assert len(collector._ended) <= 10
    assert len(collector._labels) <= 10


def test_the_endpoints_of_open_sources_are_bounded(context, registry, collector):
    collector.max_endpoints = 5
    sources = [bound(context) for _ in range(12)]
    with closing(*sources):
        for _ in range(2):
            open_now = series(registry, "_sources")
            assert sorted(open_now.values()) == [1, 1, 1, 1, 1, 7]
            assert open_now["gzmqsource_sources", "Source", "PULL", ""] == 7
        for source in sources[:3]:
            source.close()
        # What has a series keeps it, and nothing leaves that of the others.
        assert sorted(series(registry, "_sources").values()) == [1, 1, 7]
        with closing(bound(context)):
            assert sorted(series(registry, "_sources").values()) == [1, 1, 1, 7]


def test_the_sum_over_the_endpoints_is_all_that_was_ever_counted(context, registry, collector):
    collector.max_endpoints, collector.max_ended = 3, 4
    name = "gzmqsource_sent_messages_total"

    def total():
        return sum(count for key, count in series(registry).items() if key[0] == name)

    with closing(Source.open(zmq.PULL, bind="inproc://summed", context=context)):
        opened = []
        for sent in range(1, 31):
            opened.append(Source.open(zmq.PUSH, connect="inproc://summed", context=context))
            opened[-1].socket.bind(f"inproc://growth-{next(numbers)}")
            opened[-1].send(b"x")
            if sent % 3:
                opened.pop(sent % len(opened)).close()
            if sent % 4:
                assert total() == sent
        for source in opened:
            source.close()
        assert total() == 30


@pytest.mark.parametrize("seed", range(3))
def test_no_counter_goes_down_whatever_ends(context, registry, collector, seed):
    chance = random.Random(seed)
    collector.max_endpoints, collector.max_ended = 3, 4
    before: dict[tuple[str, ...], float] = {}
    receivers, senders, sent = [], [], 0
    with closing(Source.open(zmq.PULL, bind="inproc://down", context=context)) as (common,):
        for _ in range(400):
            what = chance.random()
            if what < 0.2:
                receivers.append(bound(context, handle=lambda _: None))
                receivers[-1].start()
            elif what < 0.4:
                to = chance.choice([common, *receivers])
                senders.append(Source.open(zmq.PUSH, connect=endpoint_of(to), context=context))
            elif what < 0.6 and senders:
                chance.choice(senders).send(b"x", timeout=5)
                sent += 1
            elif what < 0.8:
                some = chance.choice([receivers, senders])
                if some:
                    some.pop(chance.randrange(len(some))).close()
            else:
                now = series(registry)
                falling = {key for key in now.keys() & before.keys() if now[key] < before[key]}
                assert not falling
                total = [n for key, n in now.items() if key[0] == "gzmqsource_sent_messages_total"]
                dropped = [
                    n for key, n in now.items() if key[0] == "gzmqsource_dropped_messages_total"
                ]
                queued = sum(sender.stats().outbox_depth for sender in senders)
                assert sum(total) + sum(dropped) + queued >= sent
                before = now
            gevent.sleep(0)
        for source in (*receivers, *senders):
            source.close()


@pytest.mark.once
def test_a_thread_may_collect_whatever_happens_to_the_sources(context, registry, collector):
    collector.max_ended = 5
    failures, ended, finished = [], threading.Event(), []

    def collect():
        try:
            while not ended.is_set():
                generate_latest(registry)
        except BaseException as error:
            failures.append(error)
        finished.append(True)

    START_NATIVE_THREAD(collect, ())
    router = Source.open(zmq.ROUTER, bind="inproc://thread", context=context)
    with closing(router):
        for number in range(150):
            with (
                Requester.open("inproc://thread", context=context, linger=0) as requester,
                Source.open(zmq.PUSH, context=context, linger=0) as push,
            ):
                call = requester.submit(b"x", timeout=0.001)
                for _ in range(100):
                    push.send(b"%d" % number)
                push.withdraw(b"%d" % number)
                call.wait()
                push.close()
    ended.set()
    wait_until(lambda: finished)
    assert not failures


def test_requests_and_replies_are_counted(context, registry, collector):
    def handle(payload):
        return payload[0] if payload[0] != b"bad" else 1 / 0

    with (
        Responder.open(
            handle, bind="inproc://requests", context=context, dead_after=0.1
        ) as responder,
        Requester.open("inproc://requests", context=context) as requester,
    ):
        responder.start()
        for _ in range(3):
            requester.request(b"x", timeout=10)
        with pytest.raises(RemoteError):
            requester.request(b"bad", timeout=10)
        counted = {key[0].removeprefix("gzmqsource_"): n for key, n in series(registry).items()}
        assert counted["requester_requests_total"] == counted["responder_requests_total"] == 4
        assert (counted["responder_replies_total"], counted["responder_errors_total"]) == (3, 1)
        running = series(registry, "_running")
        assert list(running.values()) == [0]
    assert series(registry)["gzmqsource_responder_requests_total", "Source", "ROUTER", ""] == 4


def test_an_authenticator_that_starts_again_counts_no_peer_twice(context, registry, collector):
    auth = Authenticator(context)
    auth.allow("127.0.0.1")
    name = "gzmqsource_authenticator_accepted_total", "Source", "ROUTER", ""
    accepted = 0
    for _ in range(3):
        with auth:
            server = context.socket(zmq.PULL)
            server.zap_domain = b"site"
            with closing(Source(server)) as (source,):
                server.bind("tcp://127.0.0.1:*")
                with closing(
                    Source.open(zmq.PUSH, connect=endpoint_of(source), context=context)
                ) as (client,):
                    client.send(b"x")
                    source.recv(timeout=10)
        accepted += 1
    assert series(registry)[name] == auth.stats().accepted == accepted


def test_what_passes_a_proxy_is_counted(context, registry, collector):
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind("inproc://front")
    back.bind("inproc://back")
    name = "gzmqsource_proxy_frontend_frames_in_total", "Source", "PAIR", ""
    each = 2 if zmq.zmq_version_info() > (4, 3, 4) else 1  # 4.3.4 counts messages
    with (
        Proxy(front, back),
        Source.open(zmq.PUSH, connect="inproc://front", context=context) as push,
        Source.open(zmq.PULL, connect="inproc://back", context=context) as pull,
    ):
        for _ in range(5):
            push.send([b"a", b"b"])
            pull.recv(timeout=10)
        wait_until(lambda: series(registry).get(name) == 5 * each)
        push.send([b"a", b"b"])
        pull.recv(timeout=10)
    assert series(registry)[name] == 6 * each


def test_a_collector_whose_hub_was_destroyed_still_answers_and_closes(context, registry):
    said = []

    def run():
        collector = SourceCollector(registry)
        gevent.get_hub().destroy(destroy_loop=True)
        said.append(len(generate_latest(registry)))
        collector.close()
        said.append(len(generate_latest(registry)))

    START_NATIVE_THREAD(run, ())
    wait_until(lambda: len(said) == 2)
    assert said[0] > 0
    assert said[1] == 0

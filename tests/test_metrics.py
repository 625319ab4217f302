"""`SourceCollector`: what Prometheus is told of the sources."""

import subprocess
import sys
import threading
import time

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from helpers import closing, endpoint_of, pair_of
from prometheus_client import CollectorRegistry, generate_latest

from gzmqsource import Source
from gzmqsource.metrics import SourceCollector
from gzmqsource.testing import wait_until

START_NATIVE_THREAD = get_original("_thread", "start_new_thread")

pytestmark = pytest.mark.once


def labels_of(source):
    kind = zmq.SocketType(source.socket.get(zmq.TYPE)).name
    return {"source": type(source).__name__, "type": kind, "endpoint": endpoint_of(source)}


def sent_by(registry):
    """What PUSH sources have sent, by endpoint."""
    return {
        sample.labels["endpoint"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "gzmqsource_sent_messages_total" and sample.labels["type"] == "PUSH"
    }


def value(registry, name, labels, **more):
    return registry.get_sample_value(f"gzmqsource_{name}", labels | more)


def test_it_tells_what_sources_do(context, registry, collector):
    receiver, sender = pair_of(context, "tcp://127.0.0.1:*")
    with closing(receiver, sender):
        for _ in range(10):
            sender.send(b"x")
        for _ in range(10):
            receiver.recv(timeout=10)
        assert value(registry, "received_messages_total", labels_of(receiver)) == 10
        assert value(registry, "sent_messages_total", labels_of(sender)) == 10
        assert value(registry, "wakeups_total", labels_of(receiver)) == receiver.stats().wakeups
        assert value(registry, "sources", labels_of(sender)) == 1


def test_it_tells_of_queued_and_dropped_messages(context, registry, collector):
    source = Source.open(
        zmq.PUSH,
        bind="tcp://127.0.0.1:*",
        context=context,
        outbox=2,
        overflow="drop_oldest",
    )
    with closing(source):
        labels = labels_of(source)
        for _ in range(5):
            source.send(b"x")
        wait_until(lambda: value(registry, "outbox_oldest_seconds", labels) > 0)
        assert value(registry, "outbox_messages", labels) == 2
        assert value(registry, "outbox_peak_messages", labels) == 2
        assert value(registry, "dropped_messages_total", labels, reason="oldest") == 3
    ended = labels | {"endpoint": ""}
    assert value(registry, "dropped_messages_total", ended, reason="unsent") == 2
    assert value(registry, "dropped_messages_total", ended, reason="oldest") == 3
    assert value(registry, "outbox_messages", labels) is None


def test_it_times_handlers_also_those_that_raise_or_wait(context, registry, collector):
    def handle(message):
        gevent.sleep(0.02)
        if message == [b"bad"]:
            raise ValueError(message)

    server = Source.open(
        zmq.PULL,
        handle,
        bind="tcp://127.0.0.1:*",
        context=context,
        spawn=10,
        on_error=lambda *_: None,
    )
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        labels = labels_of(server)
        begun = time.monotonic()
        for message in (b"good", b"bad", b"good"):
            client.send(message)
        wait_until(lambda: value(registry, "handler_seconds_count", labels) == 3)
        most = 3 * (time.monotonic() - begun)
        assert 0.05 < value(registry, "handler_seconds_sum", labels) < most
        assert value(registry, "handler_seconds_bucket", labels, le="0.01") == 0
        assert value(registry, "handler_seconds_bucket", labels, le="+Inf") == 3
        assert value(registry, "errors_total", labels) == 1


def test_what_closed_sources_have_counted_stays_counted(context, registry, collector, monkeypatch):
    monkeypatch.setattr(collector, "max_ended", 3)
    receiver = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    endpoint = endpoint_of(receiver)
    with closing(receiver):
        for number in range(1, 11):
            sender = Source.open(zmq.PUSH, connect=endpoint, context=context)
            labels = labels_of(sender) | {"endpoint": ""}
            sender.send(b"x")
            receiver.recv(timeout=10)
            if number % 2:
                sender.close()
            else:
                dropped = [sender]
                del sender
                with pytest.warns(ResourceWarning, match="unclosed"):
                    dropped.clear()
            if number == 4:
                assert value(registry, "sent_messages_total", labels) == 4
        assert len(collector._ended) <= 4
        assert value(registry, "sent_messages_total", labels) == 10
        assert value(registry, "sent_messages_total", labels) == 10
        assert value(registry, "sources", labels) is None
        assert value(registry, "received_messages_total", labels_of(receiver)) == 10


def test_another_thread_may_collect_while_sources_come_and_go(context, registry, collector):
    receiver = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    endpoint = endpoint_of(receiver)
    totals, ended = [], threading.Event()

    def collect():
        while not ended.is_set():
            totals.append(sum(sent_by(registry).values()))
        finished.append(True)

    finished: list[bool] = []
    START_NATIVE_THREAD(collect, ())
    with closing(receiver):
        for _ in range(200):
            sender = Source.open(zmq.PUSH, connect=endpoint, context=context)
            sender.send(b"x")
            receiver.recv(timeout=10)
            sender.close()
        ended.set()
        wait_until(lambda: finished)
    assert totals == sorted(totals)
    assert sent_by(registry) == {"": 200}


def test_it_tells_how_late_the_hub_is(registry, collector):
    blocking = get_original("time", "sleep")
    wait_until(lambda: value(registry, "hub_lateness_seconds_count", {}) >= 2)
    blocking(0.3)
    wait_until(lambda: value(registry, "hub_lateness_seconds_sum", {}) > 0.2)
    late = value(registry, "hub_lateness_seconds_bucket", {}, le="+Inf")
    assert late > value(registry, "hub_lateness_seconds_bucket", {}, le="0.1")


def test_sources_that_have_all_labels_in_common_are_added_up(context, registry, collector):
    receiver = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    endpoint = endpoint_of(receiver)
    senders = [Source.open(zmq.PUSH, connect=endpoint, context=context) for _ in range(3)]
    with closing(receiver, *senders):
        for sender in senders:
            sender.send(b"x")
            receiver.recv(timeout=10)
        assert value(registry, "sent_messages_total", labels_of(senders[0])) == 3
        assert value(registry, "sources", labels_of(senders[0])) == 3
        assert generate_latest(registry).count(b"gzmqsource_sent_messages_total{") == 2


def test_without_a_collector_handlers_are_called_as_they_are(context, registry):
    calls = []

    def handle(message):
        calls.append(sys._getframe(1).f_code.co_name)

    with pytest.raises(ValueError, match="already"), closing(SourceCollector(registry)):
        SourceCollector(CollectorRegistry())
    server = Source.open(zmq.PULL, handle, bind="tcp://127.0.0.1:*", context=context)
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        client.send(b"x")
        wait_until(lambda: calls)
    assert "timed" not in calls
    assert list(registry.collect()) == []


@pytest.mark.processes
def test_a_forked_child_does_not_count_what_is_its_parents(context):
    program = """
import os, sys, gevent, zmq
from prometheus_client import CollectorRegistry
from gzmqsource import Source
from gzmqsource.metrics import SourceCollector
registry = CollectorRegistry()
collector = SourceCollector(registry)
source = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*")
labels = {"source": "Source", "type": "PULL", "endpoint": source.socket.LAST_ENDPOINT.decode()}
assert registry.get_sample_value("gzmqsource_sources", labels) == 1
child = os.fork()
if not child:
    os._exit(registry.get_sample_value("gzmqsource_sources", labels) is not None)
_, status = os.waitpid(child, 0)
source.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=20).returncode == 0


@pytest.mark.processes
def test_each_forked_child_counts_for_itself_from_the_beginning():
    program = """
import os, sys, gevent, zmq
from prometheus_client import CollectorRegistry
from gzmqsource import Source
from gzmqsource.metrics import SourceCollector
registry = CollectorRegistry()
collector = SourceCollector(registry)
labels = {"source": "Source", "type": "PUSH", "endpoint": ""}

def count():
    late = registry.get_sample_value("gzmqsource_hub_lateness_seconds_count")
    return late, registry.get_sample_value("gzmqsource_sent_messages_total", labels)

def use():
    with Source.open(zmq.PULL, bind="inproc://here") as pull:
        with Source.open(zmq.PUSH, connect="inproc://here") as push:
            push.send(b"x")
            pull.recv()
    gevent.sleep(0.2)
    late, sent = count()
    assert late > 0 and sent == 1, (late, sent)

for _ in range(2):
    use()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status))
    if count() != (0, None):
        print(count(), flush=True)
        os._exit(1)
os._exit(0)
"""
    finished = subprocess.run([sys.executable, "-c", program], timeout=20, capture_output=True)
    assert (finished.returncode, finished.stdout) == (0, b""), finished.stderr


@pytest.mark.once
def test_the_package_does_without_it():
    program = (
        "import sys; from gzmqsource import Source; assert 'prometheus_client' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=20).returncode == 0

"""Workers on several hosts behind a proxy, over links that are cut and healed."""

import contextlib
import json
import pathlib
import sys

import gevent
import pytest
from helpers import line_of
from namespaces import Star, why_not

pytestmark = pytest.mark.once

FLEET = pathlib.Path(__file__).parent.parent / "examples" / "fleet.py"


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.limit(120)
def test_every_caller_gets_its_answer_whatever_befalls_links_and_workers():
    count = 20_000
    with Star("one", "two", "three", "asker") as hosts, contextlib.ExitStack() as processes:

        def play(host, *role):
            return processes.enter_context(hosts.process(host, sys.executable, FLEET, *role))

        broker = play("middle", "broker", "tcp://*:*", "tcp://*:*")
        front, back = (endpoint.rpartition(":")[2] for endpoint in json.loads(line_of(broker)))

        def reached_from(host, port):
            return f"tcp://{hosts.middle_seen_from(host)}:{port}"

        workers = {}
        for host in ("one", "two", "three"):
            workers[host] = play(host, "worker", reached_from(host, back))
            assert line_of(workers[host]) == "ready"
        asking = play("asker", "ask", reached_from("asker", front), "--count", count)

        def unplug_the_asker():
            hosts.cut("asker")
            gevent.sleep(1)  # the fault itself: longer than the heartbeats' timeout
            hosts.heal("asker")

        happens = {
            1: lambda: hosts.cut("one"),
            2: lambda: workers["two"].kill(),
            3: unplug_the_asker,
            4: lambda: hosts.heal("one"),
            # Only the one whose link was healed is left to answer.
            6: lambda: workers["three"].kill(),
        }
        for line in asking.stdout:
            if line.startswith("{"):
                break
            happens.pop(int(line) * 10 // count, lambda: None)()
        assert not happens
        stats = json.loads(line)
        # What a worker behind the broker had is asked again after a timeout; what was cut, at once.
        assert (
            stats["answered"] == stats["replies"] == stats["requests"] - stats["timeouts"] == count
        )
        assert stats["lost"] == stats["unknown"] == stats["outstanding"] == 0
        assert stats["retries"] > 0
        assert asking.wait(timeout=10) == 0
        broker.terminate()
        assert broker.wait(timeout=10) == 0

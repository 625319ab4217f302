"""Workers on several hosts, with and without a broker, over links that are cut and healed."""

import contextlib
import json
import pathlib
import sys

import gevent
import pytest
from helpers import line_of, process_of
from namespaces import Star, why_not
from zmq.auth import create_certificates

pytestmark = [
    pytest.mark.once,
    pytest.mark.processes,
    pytest.mark.limit(120),
]
hosts_are_made = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

FLEET = pathlib.Path(__file__).parent.parent / "examples" / "fleet.py"

#: Where each server is bound, on a host of its own.
PORT = 5555


@pytest.fixture
def keys(tmp_path):
    for name in ("server", "client"):
        create_certificates(tmp_path, name)
    return tmp_path


class Fleet:
    """Roles of the example, on hosts of a star."""

    def __init__(self, hosts, processes, keys):
        self.hosts = hosts
        self._processes, self._keys = processes, keys

    def play(self, host, *role):
        command = [sys.executable, FLEET, *role, "--keys", self._keys]
        return self._processes.enter_context(self.hosts.process(host, *command))

    def reached_from(self, host, endpoint):
        port = endpoint.rpartition(":")[2]
        return f"tcp://{self.hosts.middle_seen_from(host)}:{port}"


@contextlib.contextmanager
def fleet_of(keys, *others):
    with Star(*others) as hosts, contextlib.ExitStack() as processes:
        yield Fleet(hosts, processes, keys)


def check_answers(asking, count, happens):
    """Do what happens at each tenth of the requests, and check what the asker has counted."""
    for line in asking.stdout:
        if line.startswith("{"):
            assert not happens
            stats = json.loads(line)
            assert stats["answered"] == stats["replies"] == stats["requests"] == count
            assert stats["retries"] > 0
            return
        happens.pop(int(line) * 10 // count, lambda: None)()
    raise AssertionError("the asker has ended early")


@hosts_are_made
def test_every_caller_of_a_broker_gets_its_answer_whatever_befalls_links_and_workers(keys):
    with fleet_of(keys, "one", "two", "three", "asker") as fleet:
        broker = fleet.play("middle", "broker", "tcp://*:*", "tcp://*:*")
        front, back = json.loads(line_of(broker))
        workers = {}
        for host in ("one", "two", "three"):
            workers[host] = fleet.play(host, "worker", fleet.reached_from(host, back))
            assert line_of(workers[host]) == "ready"
        asker_to = fleet.reached_from("asker", front)
        asking = fleet.play("asker", "ask", asker_to, "--count", 2500)

        def unplug_the_asker():
            fleet.hosts.cut("asker")
            gevent.sleep(1)  # the fault itself: longer than the heartbeats' timeout
            fleet.hosts.heal("asker")

        happens = {
            1: lambda: fleet.hosts.cut("one"),
            2: workers["two"].kill,
            3: unplug_the_asker,
            4: lambda: fleet.hosts.heal("one"),
            # Only the one whose link was healed is left to answer.
            6: workers["three"].kill,
        }
        check_answers(asking, 2500, happens)
        assert asking.wait(timeout=10) == 0
        broker.terminate()
        assert broker.wait(timeout=10) == 0


@hosts_are_made
def test_every_caller_of_one_name_for_all_servers_gets_its_answer(keys):
    with fleet_of(keys, "one", "two", "three") as fleet:
        fleet.hosts.give_name("servers", ["one", "two", "three"])
        servers = {}
        for host in ("one", "two", "three"):
            servers[host] = fleet.play(host, "server", f"tcp://*:{PORT}")
            line_of(servers[host])
        # So many that they outlast the heartbeats' timeout, in which one is cut off.
        asking = fleet.play("middle", "ask", f"tcp://servers:{PORT}", "--count", 10_000)
        happens = {
            1: lambda: fleet.hosts.cut("one"),
            2: servers["two"].kill,
            4: lambda: fleet.hosts.heal("one"),
            6: servers["three"].kill,
        }
        check_answers(asking, 10_000, happens)
        assert asking.wait(timeout=10) == 0
        servers["one"].terminate()
        assert servers["one"].wait(timeout=10) == 0


def test_all_roles_are_played_on_one_host():
    with process_of(sys.executable, FLEET, "--count", 1000) as fleet:
        printed = fleet.stdout.read()
        assert fleet.wait(timeout=10) == 0
    for happened in ("one worker is killed", "one leaves", "one joins", '"answered": 1000'):
        assert printed.count(happened) == 2

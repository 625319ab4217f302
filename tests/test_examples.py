"""The examples that are programs to start from, run as their first lines say."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from gevent.hub import get_hub
from handlers import Gate
from helpers import endpoint_of, free_ports, line_of, process_of
from optional import needs

from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(120)]

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def endpoints():
    return [f"tcp://127.0.0.1:{port}" for port in free_ports(2)]


@pytest.fixture
def started():
    """Start programs in the folder of the examples, and end them with the test."""
    with contextlib.ExitStack() as stack:

        def start(*command, **variables):
            process = process_of(sys.executable, *command, cwd=EXAMPLES, env=os.environ | variables)
            return stack.enter_context(process)

        yield start


def output_of(*command):
    """Run a program of the examples to its end, and return what it prints."""
    finished = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return finished.stdout


def page(url):
    """Return what a page has, as soon as its server is there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(url, timeout=60).read().decode()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, f"no server at {url}"
            time.sleep(0.05)


def is_stopped(process):
    """Tell a program to end, and return its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=60)


@pytest.fixture
def backend(started, endpoints):
    started("-m", "gzmqsource.cli", "serve", "backend:double", "--bind", endpoints[0])
    return endpoints[0]


@needs("flask", extra="servers")
def test_a_flask_application_is_patched_and_waits_in_many_requests_at_a_time(started, context):
    (port,) = free_ports(1)
    gate = Gate()

    def double(request):
        gate(request)
        return b"%d" % (2 * int(request[0]))

    with Responder.open(double, bind="tcp://127.0.0.1:*", context=context) as backend:
        backend.start()
        endpoint = endpoint_of(backend.source)
        started("-m", "gzmqsource.monkey", "flask_app.py", f"127.0.0.1:{port}", BACKEND=endpoint)
        threads = get_hub().threadpool
        urls = [f"http://127.0.0.1:{port}/double/{number}" for number in range(5)]
        pages = [threads.spawn(page, url) for url in urls]
        wait_until(lambda: gate.running == 5, 60)
        gate.opened.set()
        assert [each.get(timeout=60) for each in pages] == [f"{2 * n}\n" for n in range(5)]


@needs("flask", "gunicorn", extra="servers")
def test_a_worker_of_gunicorn_asks_over_its_own_requester_and_ends_in_order(started, backend):
    (port,) = free_ports(1)
    gunicorn = started(
        *("-m", "gunicorn", "--config", "gunicorn_conf.py", "gunicorn_app:app"),
        BIND=f"127.0.0.1:{port}",
        BACKENDS=backend,
    )
    assert page(f"http://127.0.0.1:{port}/double/21") == "42\n"
    assert is_stopped(gunicorn) == 0


@needs("locust", extra="servers")
def test_locust_counts_requests_and_gives_each_worker_numbers_of_its_own(backend):
    said = subprocess.run(
        [
            *(sys.executable, "-m", "gzmqsource.monkey", "--module", "locust"),
            *("-f", "locustfile.py", "--headless", "--processes", "2", "--host", backend),
            *("-u", "20", "-r", "20", "-t", "3s", "--only-summary"),
        ],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert sorted(re.findall(r"in steps of 2 from (\d)", said.stdout)) == ["0", "1"]
    requests, failures = re.findall(r"Aggregated +(\d+) +(\d+)\(", said.stderr + said.stdout)[0]
    assert int(requests) > 0
    assert int(failures) == 0


def test_a_pool_does_all_jobs_also_those_of_a_worker_that_is_killed(started, endpoints):
    front, back = endpoints
    broker = started("worker_pool.py", "broker", front, back)
    first, second = (started("worker_pool.py", "worker", back) for _ in range(2))
    client = started("worker_pool.py", "client", front)
    assert line_of(client).startswith("refused by its worker: ValueError: a password without salt")
    assert line_of(client) == "200 jobs were done by 2 workers"
    client = started("worker_pool.py", "client", front)
    line_of(client)
    first.kill()
    assert line_of(client).startswith("200 jobs were done by")
    assert [is_stopped(each) for each in (second, broker)] == [0, 0]


def test_each_subscriber_has_the_state_of_the_publisher_in_the_end(started, endpoints):
    early = started("late_joiners.py", "subscriber", *endpoints)
    publisher = started("late_joiners.py", "publisher", *endpoints)
    late = started("late_joiners.py", "subscriber", *endpoints)
    end = line_of(publisher)
    assert json.loads(end.partition(": ")[2])["end"] == 1
    for each in (early, late):
        assert list(each.stdout)[-1].strip() == end


@needs("zerorpc", extra="servers")
def test_clients_of_zerorpc_and_those_that_have_moved_call_one_object(started, endpoints):
    old, new = endpoints
    server = started("from_zerorpc.py", "server", old, new)
    assert output_of("from_zerorpc.py", "old_client", old).splitlines() == [
        "3",
        "ValueError fewer than 100 of nut",
    ]
    assert output_of("from_zerorpc.py", "new_client", new).splitlines() == [
        "6",
        "ValueError: fewer than 100 of nut",
    ]
    assert is_stopped(server) == 0


def test_the_table_names_every_example():
    table = (EXAMPLES / "README.rst").read_text()
    names = {each.name for each in EXAMPLES.iterdir() if each.suffix in (".py", "")}
    assert names - {"__pycache__"} == set(re.findall(r"<([\w.]+)>`_", table))

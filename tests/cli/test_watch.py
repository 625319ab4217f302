"""`proxy` and `monitor`."""

import json

import pytest
import zmq
from command_under_test import run, running
from gevent import subprocess
from helpers import closing, endpoint_of, free_ports, until_at_rest

from gzmqsource import Source

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


def test_a_proxy_passes_requests(address, context):
    back = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with running("proxy", address, back, stderr=subprocess.PIPE) as process:
        assert "is served" in process.stderr.readline()
        with (
            closing(Source.open(zmq.DEALER, connect=back, context=context, linger=0)) as (worker,),
            closing(Source.open(zmq.DEALER, connect=address, context=context, linger=0)) as (asks,),
        ):
            asks.send(b"question")
            message = worker.recv(timeout=10)
            worker.send([*message[:-1], b"answer"])
            assert asks.recv(timeout=10) == [b"answer"]
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_the_endpoints_of_a_proxy_are_records_for_programs(address):
    command = ("--log-format", "json", "proxy", address, "tcp://127.0.0.1:*")
    with running(*command, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stderr.readline())["message"] == f"{address} is served"


def test_a_proxy_whose_log_is_on_a_full_disk_serves(address, context):
    back = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    command = ("proxy", address, back, "--pattern", "jobs")
    options = {"context": context, "linger": 0}
    with (
        open("/dev/full", "w") as full,
        running(*command, stderr=full) as process,
        closing(Source.open(zmq.PULL, connect=back, **options)) as (pull,),
        closing(Source.open(zmq.PUSH, connect=address, **options)) as (push,),
    ):
        push.send(b"a job")
        assert pull.recv(timeout=10) == [b"a job"]
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_a_proxy_that_is_stopped_sends_what_it_has_taken(address, context):
    back = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    user = ("--plain-user", "ann", "--plain-password", "secret")
    credentials = {"plain_username": b"ann", "plain_password": b"secret", "context": context}
    credentials["linger"] = 5000
    command = ("proxy", address, back, "--pattern", "jobs", *user)
    with (
        running(*command, stderr=subprocess.PIPE) as process,
        closing(Source.open(zmq.PULL, connect=back, rcvhwm=1, rcvbuf=4096, **credentials)) as (
            slow,
        ),
        closing(Source.open(zmq.PUSH, connect=address, **credentials)) as (source,),
    ):
        for number in range(100):
            source.send([b"%d" % number, b"x" * 100_000])
        assert slow.recv(timeout=10)[0] == b"0"
        assert source.stop(10) == []
        until_at_rest(process)
        process.terminate()
        got = [int(slow.recv(timeout=10)[0]) for _ in range(99)]
        assert process.wait(timeout=20) == 0
    assert got == list(range(1, 100))


def test_a_monitor_tells_what_happens(address, context):
    with closing(Source.open(zmq.ROUTER, bind=address, context=context)) as (source,):
        finished = run("monitor", "--connect", endpoint_of(source), "--count", 2)
        assert finished.returncode == 0
        assert b"connect" in finished.stdout.lower()

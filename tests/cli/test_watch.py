"""`proxy` and `monitor`."""

import pytest
import zmq
from command_under_test import COMMAND, free_port, run
from gevent import subprocess
from helpers import closing, endpoint_of, process_of

from gzmqsource import Source

pytestmark = pytest.mark.once


def test_a_proxy_passes_requests(address, context):
    back = f"tcp://127.0.0.1:{free_port()}"
    with process_of(*COMMAND, "proxy", address, back, stderr=subprocess.PIPE) as process:
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
        assert process.wait(timeout=10) == 0


def test_a_monitor_tells_what_happens(address, context):
    with closing(Source.open(zmq.ROUTER, bind=address, context=context)) as (source,):
        finished = run("monitor", "--connect", endpoint_of(source), "--count", 2)
        assert finished.returncode == 0
        assert b"connect" in finished.stdout.lower()

"""``serve`` makes the zmq of its handlers cooperative, too."""

import os

import gevent
import pytest
from command_under_test import COMMAND
from handlers import Gate
from helpers import endpoint_of, process_of
from patching import run

from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester, Responder

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(60)]

ASKS = """
import os
import zmq

context = zmq.Context()

def answer(payload):
    with context.socket(zmq.REQ) as socket:
        socket.connect(os.environ["BACKEND"])
        socket.send(payload[0])
        return socket.recv()
"""


def test_handlers_that_wait_in_a_plain_req_wait_side_by_side(tmp_path, address, context):
    (tmp_path / "asks.py").write_text(ASKS)
    gate = Gate()

    def reply(payload):
        gate(payload)
        return b"reply to " + payload[0]

    command = (*COMMAND, "serve", "asks:answer", "--bind", address)
    with Responder.open(reply, bind="tcp://127.0.0.1:*", context=context) as backend:
        backend.start()
        variables = os.environ | {"BACKEND": endpoint_of(backend.source)}
        with (
            process_of(*command, cwd=tmp_path, env=variables),
            Requester.open(address, context=context) as requester,
        ):
            asking = [gevent.spawn(requester.request, b"%d" % n, timeout=30) for n in range(3)]
            wait_until(lambda: gate.running == 3, 30)
            gate.opened.set()
            gevent.joinall(asking, raise_error=True)
    assert [greenlet.value for greenlet in asking] == [[b"reply to %d" % n] for n in range(3)]


LOOKS = """
import sys
from importlib import metadata
from gzmqsource.cli import main

entry_points = metadata.entry_points

def count(**group):
    print("look")
    return entry_points(**group)

metadata.entry_points = count
sys.argv[1:] = ["serve", "absent:answer", "--bind", "tcp://127.0.0.1:*"]
try:
    main()
except SystemExit:
    print(metadata.entry_points is count)
"""


def test_gevents_plugins_are_looked_for_once_while_it_patches():
    assert run(LOOKS) == ["look", "True"]

"""`top` and `doctor` at a port where no metrics are."""

import pytest
import zmq
from command_under_test import run
from helpers import closing, endpoint_of

from gzmqsource import Source

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@pytest.mark.parametrize("verb", ["top", "doctor"])
@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.PUB])
def test_the_port_of_a_zeromq_socket_is_named_as_such(context, verb, kind):
    with closing(Source.open(kind, bind="tcp://127.0.0.1:*", context=context)) as (source,):
        port = endpoint_of(source).rpartition(":")[2]
        finished = run(verb, port)
    error = finished.stderr.decode()
    assert finished.returncode == 1
    assert error.startswith(f"Error: http://127.0.0.1:{port}/")
    assert "this is a ZeroMQ socket, not a metrics server: use the port of" in error

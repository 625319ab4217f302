"""An endpoint that libzmq refuses as it is written is named with the rule and with the fix."""

import pytest
import zmq
from helpers import closing

from gzmqsource import Source
from gzmqsource._socket.addresses import WrongEndpoint
from gzmqsource._socket.forms import fault_of
from gzmqsource.broker import Broker
from gzmqsource.workers import Requester, Responder

RULE = "an endpoint is tcp://HOST:PORT, ipc://PATH or inproc://NAME"

#: What is passed, and what is meant if it is connected and if it is bound.
WITHOUT_TRANSPORT = {
    "127.0.0.1:5555": ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
    "localhost:5555": ("tcp://localhost:5555", "tcp://127.0.0.1:5555"),
    "example.org:5555": ("tcp://example.org:5555", "tcp://*:5555"),
    "[::1]:5555": ("tcp://[::1]:5555", "tcp://[::1]:5555"),
    "*:5555": ("tcp://127.0.0.1:5555", "tcp://*:5555"),
    ":5555": ("tcp://127.0.0.1:5555", "tcp://*:5555"),
    "5555": ("tcp://127.0.0.1:5555", "tcp://*:5555"),
    "tcp:/127.0.0.1:5555": ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
    "tcp:127.0.0.1:5555": ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
    "/tmp/socket": ("ipc:///tmp/socket", "ipc:///tmp/socket"),
}


@pytest.mark.parametrize("endpoint", WITHOUT_TRANSPORT)
def test_a_missing_transport_is_named_with_what_is_most_likely_meant(context, endpoint):
    for option, meant in zip(("connect", "bind"), WITHOUT_TRANSPORT[endpoint], strict=True):
        with pytest.raises(zmq.ZMQError) as caught:
            Source.open(zmq.PULL, context=context, **{option: endpoint})
        text = f"cannot {option} a PULL to {endpoint}: it has no transport, and {RULE}: use {meant}"
        assert str(caught.value) == text
        assert caught.value.errno == zmq.EINVAL


def test_no_fix_is_made_up(context):
    with pytest.raises(zmq.ZMQError) as caught:
        Source.open(zmq.PULL, connect="nonsense", context=context)
    text = f"cannot connect a PULL to nonsense: it has no transport, and {RULE}"
    assert str(caught.value) == text


CALLS = {
    "Requester": lambda endpoint, context: Requester.open(endpoint, context=context),
    "Responder": lambda endpoint, context: Responder.open(list, bind=endpoint, context=context),
    "a joining Responder": lambda endpoint, context: Responder.join(
        endpoint, list, context=context
    ),
    "Broker": lambda endpoint, context: Broker.open("inproc://front", endpoint, context=context),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_way_to_an_endpoint_names_the_fix(context, call):
    with pytest.raises(WrongEndpoint, match=r"use tcp://127\.0\.0\.1:5555"):
        call("127.0.0.1:5555", context)


@pytest.mark.parametrize("name", ["bind", "connect"])
def test_the_socket_of_a_source_names_the_fix(context, name):
    with closing(Source.open(zmq.PULL, context=context)) as (source,):
        bind_or_connect = getattr(source.socket, name)
        with pytest.raises(WrongEndpoint, match=r"use tcp://127\.0\.0\.1:5555"):
            bind_or_connect("127.0.0.1:5555")


@pytest.mark.parametrize(
    ("endpoint", "option", "text"),
    [
        ("tcp://127.0.0.1", "connect", "it has no port: use tcp://127.0.0.1:PORT"),
        ("tcp://[::1]", "bind", "it has no port: use tcp://[::1]:PORT"),
        ("tcp://*:5555", "connect", "only for bind: use tcp://127.0.0.1:5555"),
        ("tcp://:5555", "bind", "it has no host: use tcp://*:5555"),
        ("tcp://127.0.0.1:http", "connect", "'http' is not a port: it is a number up to 65535"),
        ("tcp://127.0.0.1:http", "bind", "or * for any that is free"),
        ("tcp://no.such.host:5555", "bind", "takes an address or an interface: use tcp://*:5555"),
        ("http://127.0.0.1:80", "connect", f"http is not a transport of ZeroMQ: {RULE}"),
    ],
)
def test_another_wrong_form_is_explained_too(context, endpoint, option, text):
    with pytest.raises(WrongEndpoint) as caught:
        Source.open(zmq.PULL, context=context, **{option: endpoint})
    assert text in str(caught.value)


def test_an_error_of_a_good_endpoint_is_not_of_its_form(context):
    taken = Source.open(zmq.PULL, bind="inproc://taken", context=context)
    with pytest.raises(zmq.ZMQError, match="Address already in use") as caught:
        Source.open(zmq.PULL, bind="inproc://taken", context=context)
    assert type(caught.value) is zmq.ZMQError
    taken.close()


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5555", "tcp://[::1]:1", "tcp://eth0;127.0.0.1:5555", "ipc://x", "inproc://x"],
)
def test_a_good_form_has_no_fault(endpoint):
    assert fault_of(endpoint, is_bound=False) is None

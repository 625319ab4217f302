"""The drop-in under test: gzmqsource's, or pyzmq's own with ``GZMQSOURCE_TEST_GREEN=zmq.green``."""

import importlib

import pytest
from gevent.monkey import get_original
from green_under_test import NAME
from zmq.sugar.context import Context as PlainContext


@pytest.fixture(scope="session")
def green():
    return importlib.import_module(NAME)


@pytest.fixture
def context(green):
    """A green context, ended in the end whatever a test has left open or waiting."""
    made = []

    class Context(green.Context):
        def socket(self, *args, **kwargs):
            made.append(super().socket(*args, **kwargs))
            return made[-1]

    context = Context()
    yield context
    for socket in made:
        if not socket.closed:
            socket.close(0)
    if not context.closed:
        PlainContext.term(context)


@pytest.fixture
def pair(green, context, endpoint):
    """A PULL and a PUSH socket, connected."""

    def make(receiving=green.PULL, sending=green.PUSH, **options):
        receiver, sender = context.socket(receiving), context.socket(sending)
        for socket in (receiver, sender):
            socket.linger = 0
        for name, value in options.items():
            setattr(sender, name, value)
            if name == "sndhwm":
                receiver.rcvhwm = value
        receiver.bind(endpoint)
        sender.connect(receiver.LAST_ENDPOINT.decode())
        return receiver, sender

    return make


@pytest.fixture
def original_sleep():
    return get_original("time", "sleep")

"""The drop-in under test: gzmqsource's, or pyzmq's own with ``GZMQSOURCE_TEST_GREEN=zmq.green``."""

import importlib
import json
import os
import pathlib
from typing import Any

import pytest
from gevent.monkey import get_original
from green_under_test import NAME
from zmq.sugar.context import Context as PlainContext

#: Fault: whether all its tests have passed.
FAULTS = pytest.StashKey[dict[str, bool]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Note for each fault whether a test of it has failed; see ``faults.py``."""
    report = yield
    marker = item.get_closest_marker("fault")
    if marker is not None and not report.skipped:
        faults = item.config.stash.setdefault(FAULTS, {})
        faults[marker.args[0]] = faults.get(marker.args[0], True) and not report.failed
    return report


def pytest_sessionfinish(session):
    if "GZMQSOURCE_FAULTS" in os.environ:
        folder = pathlib.Path(os.environ["GZMQSOURCE_FAULTS"])
        folder.mkdir(parents=True, exist_ok=True)
        faults = session.config.stash.get(FAULTS, {})
        (folder / f"{NAME}.json").write_text(json.dumps(faults))


@pytest.fixture(scope="session")
def green():
    return importlib.import_module(NAME)


@pytest.fixture
def context(green: Any):
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

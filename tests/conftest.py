"""The suite's ground: patching, a hard limit for every test, transports."""

import os
import sys
import time

import gevent.monkey

if os.environ.get("GZMQSOURCE_TEST_PATCHED"):
    gevent.monkey.patch_all()

import faulthandler  # noqa: E402
import uuid  # noqa: E402

import gevent.util  # noqa: E402
import pytest  # noqa: E402
import zmq  # noqa: E402
from gevent.monkey import get_original  # noqa: E402

LIMIT = 30

_start_thread = get_original("_thread", "start_new_thread")
_sleep = get_original("time", "sleep")


class HardLimit:
    """Ends the process when a test takes too long, from a thread that no hub can stop."""

    def __init__(self):
        self.running = None
        _start_thread(self._watch, ())

    def _watch(self):
        while True:
            _sleep(0.25)
            running = self.running
            if running is not None and time.monotonic() > running[1]:
                self._report(running[0])
                os._exit(70)

    def _report(self, name):
        out = sys.__stderr__
        print(f"\n{name} is over its hard limit", file=out)
        print("\n".join(gevent.util.format_run_info()), file=out)
        faulthandler.dump_traceback(out)
        out.flush()


_limit = HardLimit()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else LIMIT
    _limit.running = (item.nodeid, time.monotonic() + seconds)
    try:
        return (yield)
    finally:
        _limit.running = None


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.term()


@pytest.fixture(params=["inproc", "ipc", "tcp"])
def transport(request):
    return request.param


@pytest.fixture
def endpoint(transport, tmp_path):
    """An address to bind to; ``LAST_ENDPOINT`` then tells where to connect."""
    return {
        "inproc": f"inproc://{uuid.uuid4()}",
        "ipc": f"ipc://{tmp_path}/socket",
        "tcp": "tcp://127.0.0.1:*",
    }[transport]

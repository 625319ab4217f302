"""The suite's ground: patching, a hard limit for every test, transports."""

import gc
import os
import pathlib
import sys
import time

import gevent.monkey

if os.environ.get("GZMQSOURCE_TEST_PATCHED"):
    gevent.monkey.patch_all()

import faulthandler
import uuid

import gevent.util
import pytest
import zmq
from gevent.hub import get_hub
from gevent.monkey import get_original

from gzmqsource import Source
from gzmqsource._base import reports
from gzmqsource._base.hubs import call_in_hub
from gzmqsource._socket import linger
from gzmqsource._socket.budget import Budget, yield_to_io
from gzmqsource._socket.hub_slice import HubSlice
from gzmqsource.transfer import backend

LIMIT = 30

#: What the Python processes of tests begin with.
STARTUP = pathlib.Path(__file__).parent / "startup"

#: Whether a test has failed.
FAILED = pytest.StashKey[bool]()

allocate_lock = get_original("_thread", "allocate_lock")
_start_thread = get_original("_thread", "start_new_thread")
_sleep = get_original("time", "sleep")


class HardLimit:
    """Ends the process when a test takes too long, from a thread that no hub can stop."""

    def __init__(self, config):
        self.running = None
        self._capture = config.pluginmanager.getplugin("capturemanager")
        _start_thread(self._watch, ())

    def _watch(self):
        while True:
            _sleep(0.25)
            running = self.running
            if running is not None and time.monotonic() > running[1]:
                self._report(running[0])
                os._exit(70)

    def _report(self, name):
        self._capture.suspend_global_capture(in_=True)
        out = sys.__stderr__
        assert out is not None
        print(f"\n{name} is over its hard limit", file=out)
        gevent.util.print_run_info(file=out)
        faulthandler.dump_traceback(out)
        out.flush()


def pytest_configure(config):
    config.hard_limit = HardLimit(config)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(STARTUP), *filter(None, [os.environ.get("PYTHONPATH")])]
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    limit = item.config.hard_limit
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else LIMIT
    limit.running = (item.nodeid, time.monotonic() + seconds)
    try:
        return (yield)
    finally:
        limit.running = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def context(request):
    """A context, in whose end no socket is open; that of a test that failed is destroyed."""
    context = zmq.Context()
    yield context
    if request.node.stash[FAILED]:
        context.destroy(0)  # to wait for what it has left open would end the whole run
    else:
        context.term()


@pytest.fixture(scope="module", autouse=True)
def few_objects():
    """Keep what was there before from the collector, which took 0.1 s to pass through it each time.

    Hundreds of tests call it, to see what they leave behind.
    """
    gc.collect()
    if hasattr(gc, "freeze"):  # PyPy has none
        gc.freeze()


@pytest.fixture(autouse=True)
def new_reports():
    """Lines of the log that are not left out because of those of another test."""
    for kind in reports.kinds:
        kind.abandon()


@pytest.fixture
def few_callbacks():
    """Have the hub poll after 50 callbacks, as it does when another process takes the core."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # gevent reads it
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def told(monkeypatch):
    """What the hub is asked to handle: context, error."""
    told = []
    monkeypatch.setattr(
        gevent.get_hub(),
        "handle_error",
        lambda context, _, value, __: told.append((context, value)),
    )
    return told


def _transports():
    """Return those of this pass: all over the native transfer, and fewer in the others.

    A transport is libzmq's. What differs for us is whether a call itself moves a message, as over
    inproc, or a thread of libzmq's does so, as over ipc and tcp alike: that is shown with either
    transfer. To patch the standard library changes nothing below a socket.
    """
    if os.environ.get("GZMQSOURCE_TEST_PATCHED"):
        return ["tcp"]
    return ["inproc", "ipc", "tcp"] if backend == "native" else ["inproc", "tcp"]


@pytest.fixture(params=_transports())
def transport(request):
    return request.param


@pytest.fixture
def endpoint(transport, request):
    """An address to bind to; ``LAST_ENDPOINT`` then tells where to connect."""
    if transport == "ipc":  # the only one that needs a folder
        return f"ipc://{request.getfixturevalue('tmp_path')}/socket"
    return f"inproc://{uuid.uuid4()}" if transport == "inproc" else "tcp://127.0.0.1:*"


@pytest.fixture
def long_slices(monkeypatch):
    """Slices that do not end by the clock, however busy the machine is."""
    monkeypatch.setattr(HubSlice, "length", 3600.0)
    monkeypatch.setattr(Source, "max_seconds", 3600.0)
    _end_slice()
    yield
    _end_slice()


@pytest.fixture
def budgets():
    """Make budgets of 5 messages, which share the slices of the hub."""
    made: list[Budget] = []

    def make(max_messages=5, max_seconds=60.0):
        made.append(Budget(gevent.get_hub(), max_messages, max_seconds))
        return made[-1]

    shared = make().shared
    shared.ends = 0.0  # other tests may have had longer slices
    yield_to_io(gevent.get_hub())
    yield make
    while shared.is_crowded:  # by greenlets that were killed
        yield_to_io(gevent.get_hub())
    for budget in made:
        budget.close()


@pytest.fixture
def long_release(monkeypatch):
    """Endpoints that are waited for until libzmq has freed them, however busy the machine is."""
    monkeypatch.setattr(linger, "FREE_WITHIN", 10.0)


def _end_slice():
    for each in vars(get_hub()).values():
        if isinstance(each, HubSlice):
            each.ends = 0.0
    gevent.sleep(0.001)  # the hub has polled: the next one may begin


@pytest.fixture
def adopting(monkeypatch):
    """Requests of threads whose time begins when the requester's hub has them, not before."""
    from gzmqsource.workers import _elsewhere

    def call_and_wait(hub, function, *arguments):
        def call():
            function(*arguments)
            called.release()

        called = allocate_lock()
        called.acquire()
        reaches = call_in_hub(hub, call)
        if reaches:
            called.acquire()
        return reaches

    monkeypatch.setattr(_elsewhere, "call_in_hub", call_and_wait)


@pytest.fixture
def registry():
    from prometheus_client import CollectorRegistry

    return CollectorRegistry()


@pytest.fixture
def collector(registry):
    from gzmqsource.metrics import SourceCollector

    collector = SourceCollector(registry)
    yield collector
    collector.close()


@pytest.fixture
def scene(context, tmp_path):
    """The objects that mistakes are made with."""
    from mistakes import Scene

    scene = Scene(context, tmp_path)
    yield scene
    scene.close()

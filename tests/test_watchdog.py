"""The watchdog reports what steals an edge behind a source's back; each in a process of its own."""

import os

import pytest
from helpers import python_process

pytestmark = [pytest.mark.processes, pytest.mark.once]

BEGIN = """
import logging, select, sys, time
import gevent
import zmq
from gevent.monkey import get_original
from gzmqsource import Source
from gzmqsource.testing import all_blocked
from gzmqsource._socket.watchdog import INTERVAL

class Lines(logging.Handler):
    def emit(self, record):
        reports.append(record)

reports = []
logging.getLogger("gzmqsource.watchdog").addHandler(Lines())
edges = get_original("select", "poll")()
has_edge = lambda: edges.poll(5000)
context = zmq.Context()
raw = context.socket(zmq.PULL)
raw.bind(sys.argv[1])
edges.register(raw, select.POLLIN)
peer = context.socket(zmq.PUSH)
peer.connect(raw.get(zmq.LAST_ENDPOINT).rstrip(b"\\0").decode())
source = Source(raw)
peer.send(b"first")
assert source.recv(timeout=5) == [b"first"]
"""

END = """
source.close()
peer.close()
context.term()
print(len(reports))
for record in reports:
    print(record.levelname, record.name, record.getMessage())
"""

STEAL = """
waiting = gevent.spawn(source.recv)
all_blocked()

def the_thief():
    CALL

for number in range(COUNT):
    peer.send(b"%d" % number)
assert has_edge()
the_thief()
assert waiting.get(timeout=20) == [b"%d" % (COUNT - 1)]
"""

ENDPOINTS = {"inproc": "inproc://x", "tcp": "tcp://127.0.0.1:*"}


#: From here on the descriptors that the process opens are above those that `select` takes.
HIGH = """
import os, resource
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2000), most))
while os.dup(0) < 1100:
    pass
"""


def run(program, endpoint, debug="1", before=""):
    environment = {**os.environ, "GZMQSOURCE_DEBUG": debug}
    with python_process(before + BEGIN + program + END, endpoint, env=environment) as process:
        output = process.stdout.read()
        assert process.wait() == 0
    count, _, report = output.partition("\n")
    return int(count), report


@pytest.mark.parametrize(
    ("name", "call", "count"),
    [
        ("recv", "raw.recv(zmq.NOBLOCK)", 2),
        ("get", "raw.get(zmq.EVENTS)", 1),
        ("getsockopt", "raw.getsockopt(zmq.EVENTS)", 1),
        ("poll", "raw.poll(0)", 1),
        ("zmq_poll", "zmq.zmq_poll([(raw, zmq.POLLIN)], 0)", 1),
        ("bind", "raw.bind('inproc://more')", 1),
        ("connect", "raw.connect('inproc://nobody')", 1),
    ],
)
def test_a_stolen_edge_is_reported_with_the_call_and_its_caller(name, call, count):
    program = STEAL.replace("CALL", call).replace("COUNT", str(count))
    reports, report = run(program, "inproc://x")
    assert reports == 1
    assert report.startswith("ERROR gzmqsource.watchdog missed edge on <zmq.Socket(zmq.PULL)")
    assert f"eaten by {name}(), called from" in report
    assert "the_thief" in report


def test_a_stolen_edge_is_reported_however_many_descriptors_are_open():
    program = STEAL.replace("CALL", "raw.get(zmq.EVENTS)").replace("COUNT", "1")
    program = "assert raw.fileno() > 1023\n" + program
    reports, report = run(program, "inproc://x", before=HIGH)
    assert reports == 1
    assert "eaten by get(), called from" in report


@pytest.mark.parametrize("transport", ["inproc", "tcp"])
def test_normal_traffic_is_not_reported(transport):
    program = """
other = Source(peer)

def send():
    for number in range(2000):
        other.send(b"%d" % number)
        if number % 100 == 0:
            source.socket.get(zmq.EVENTS)
            gevent.sleep(INTERVAL / 10)

def receive():
    for number in range(2000):
        assert source.recv(timeout=5) == [b"%d" % number]

gevent.joinall([gevent.spawn(send), gevent.spawn(receive)], raise_error=True)
waiting = gevent.spawn(source.recv, timeout=2.2 * INTERVAL)
waiting.join()
other.close()
"""
    assert run(program, ENDPOINTS[transport]) == (0, "")


@pytest.mark.parametrize("debug", ["", "0"])
def test_the_watchdog_is_off_unless_it_is_asked_for(debug):
    program = """
from gzmqsource._socket import watchdog
assert not watchdog._patrols
assert not watchdog._watched
assert type(raw).recv.__get__(raw) == raw.recv
"""
    assert run(program, "inproc://x", debug) == (0, "")


def test_a_watched_source_does_not_keep_the_hub_alive():
    program = """
assert gevent.get_hub().join(timeout=10), "kept alive"
"""
    assert run(program, "inproc://x") == (0, "")


def test_a_watched_source_that_is_dropped_is_collected():
    program = """
import gc, warnings, weakref
warnings.simplefilter("ignore")
gone = weakref.ref(source)
del source
gc.collect()
assert gone() is None
assert raw.closed
source = Source.open(zmq.PULL, context=context)
"""
    assert run(program, "inproc://x") == (0, "")

"""A source that is not read from stops its peer, which is in another process."""

import contextlib
import functools

import pytest
import zmq
from handlers import Gate
from helpers import closing, endpoint_of, line_of, python_process

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until

FILL = """
import sys, time, zmq
address, total = sys.argv[1], int(sys.argv[2])
context = zmq.Context()
push = context.socket(zmq.PUSH)
push.sndhwm, push.sndbuf = 10, 4096
push.connect(address)
push.poll(10000, zmq.POLLOUT)
sent, last, filler = 0, time.monotonic(), b"x" * 1000
# Full is: Again for a quarter of a second on end.
while time.monotonic() < last + 0.25:
    try:
        push.send_multipart([b"%d" % sent, filler], zmq.NOBLOCK)
    except zmq.Again:
        time.sleep(0.001)
    else:
        sent, last = sent + 1, time.monotonic()
        if sent == total:
            break
print(sent, flush=True)
for number in range(sent, total):
    push.send_multipart([b"%d" % number, filler])
sys.stdin.read()  # libzmq may lose what a closed peer has sent to a full receiver
"""

#: More than the buffers of both ends and of the kernel hold.
TOTAL = 10_000


@contextlib.contextmanager
def filled(context, handle=None, **options):
    """A source that is not read from, once the peer in another process has found it full."""
    source = Source.open(
        zmq.PULL,
        handle,
        bind="tcp://127.0.0.1:*",
        context=context,
        rcvhwm=10,
        rcvbuf=4096,
        **options,
    )
    with closing(source), python_process(FILL, endpoint_of(source), TOTAL) as peer:
        if handle is not None:
            source.start()
        yield source, functools.partial(line_of, peer)


@pytest.mark.parametrize(("spawn", "slots"), [(4, 4), (None, 1)], ids=["4", "None"])
def test_a_busy_handler_stops_the_peer_in_another_process(context, spawn, slots):
    gate = Gate()
    with filled(context, gate, spawn=spawn) as (source, line):
        sent = int(line())
        assert sent < TOTAL, "the peer's send never raised Again"
        wait_until(lambda: len(gate.begun) >= slots)
        held = source.stats()
        assert held.received == slots
        assert held.in_hand <= source.max_batch
        assert len(gate.begun) == slots
        all_blocked(20)
        assert source.stats().received == held.received
        gate.opened.set()
        wait_until(lambda: len(gate.done) >= TOTAL, 20)
        all_blocked()
        assert source.stats().dropped == {}
    numbers = [int(number) for number, _ in gate.done]
    assert sorted(numbers) == list(range(TOTAL))
    if spawn is None:
        assert numbers == list(range(TOTAL))


def test_a_handler_that_becomes_slow_stops_the_peer_with_one_batch_in_hand(context):
    """The batch has grown while the handler kept up: this is the most that is ever in hand."""
    gate = Gate()

    def handle(message):
        if int(message[0]) >= 5000:
            gate(message)
        else:
            gate.done.append(message)

    with filled(context, handle) as (source, line):
        assert int(line()) < TOTAL
        wait_until(lambda: gate.begun)
        held = source.stats()
        assert held.received == 5001 + held.in_hand
        assert held.in_hand < source.max_batch
        all_blocked(20)
        assert source.stats().received == held.received
        gate.opened.set()
        wait_until(lambda: len(gate.done) >= TOTAL, 20)
    assert [int(number) for number, _ in gate.done] == list(range(TOTAL))


def test_a_source_that_nobody_pulls_stops_the_peer_in_another_process(context):
    with filled(context) as (source, line):
        sent = int(line())
        assert sent < TOTAL, "the peer's send never raised Again"
        assert source.stats().received == 0
        assert [int(source.recv(timeout=5)[0]) for _ in range(TOTAL)] == list(range(TOTAL))


def test_a_paused_source_stops_the_peer_in_another_process(context):
    got: list[list[bytes]] = []
    source = Source.open(
        zmq.PULL, got.append, bind="tcp://127.0.0.1:*", context=context, rcvhwm=10, rcvbuf=4096
    )
    with closing(source):
        source.start()
        source.pause()
        with python_process(FILL, endpoint_of(source), TOTAL) as peer:
            assert int(line_of(peer)) < TOTAL
            assert source.stats().received == 0
            source.resume()
            wait_until(lambda: len(got) >= TOTAL, 20)
    assert [int(number) for number, _ in got] == list(range(TOTAL))

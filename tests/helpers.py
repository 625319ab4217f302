"""What tests wait for, in place of sleeping."""

import contextlib
import sys
import time

import gevent
import zmq
from gevent import subprocess
from gevent.hub import get_hub

from gzmqsource import Source


def wait_until(predicate, timeout=10):
    """Wait for a condition; what *predicate* returned."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {predicate}"
        gevent.sleep(0.001)
    return value


def all_blocked(turns=3):
    """Let every greenlet run until it waits for I/O or the clock.

    A timer of the shortest time comes after the callbacks and the I/O of a turn of the loop, so
    when some turns in a row leave no callback behind, nothing that was ready is left.
    """
    loop = get_hub().loop
    quiet = 0
    while quiet < turns:
        with loop.timer(0.001) as timer:
            get_hub().wait(timer)
        quiet = quiet + 1 if not loop.pendingcnt else 0


def endpoint_of(source):
    """Where to connect to reach a bound source or socket."""
    socket = source.socket if isinstance(source, Source) else source
    return socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()


@contextlib.contextmanager
def python_process(program, *arguments, **options):
    """Run a Python program in a process of its own, and end it with the block.

    Its pipes are gevent's, so that the hub runs while one is read.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def line_of(process):
    """Read a line that a process prints."""
    return process.stdout.readline().strip()


def pair_of(context, endpoint, receiving=zmq.PULL, sending=zmq.PUSH, **options):
    """Two connected sources: one that is pulled, one that sends. Options are the sender's."""
    receiver = Source.open(receiving, bind=endpoint, context=context)
    sender = Source.open(sending, connect=endpoint_of(receiver), context=context, **options)
    return receiver, sender


@contextlib.contextmanager
def closing(*sources):
    """Close sources at the end, whatever happened to them."""
    try:
        yield sources
    finally:
        for source in sources:
            source.close()

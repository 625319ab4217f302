"""Making sources and processes for tests, and closing them."""

import contextlib
import sys

import zmq
from gevent import socket, subprocess

from gzmqsource import Source


def endpoint_of(source):
    """Where to connect to reach a bound source or socket."""
    socket = source.socket if isinstance(source, Source) else source
    return socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()


@contextlib.contextmanager
def process_of(*command, **options):
    """Run a program in a process of its own, and end it with the block.

    Its pipes are gevent's, so that the hub runs while one is read.
    """
    process = subprocess.Popen(
        [*map(str, command)],
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


def python_process(program, *arguments, **options):
    """Run a Python program as `process_of` does."""
    return process_of(sys.executable, "-c", program, *arguments, **options)


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


def free_ports(count):
    """Give ports that nobody has."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in held]

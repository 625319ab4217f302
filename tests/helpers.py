"""Making sources and processes for tests, and closing them."""

import contextlib
import fcntl
import itertools
import os
import pathlib
import sys
import termios
import uuid

import gevent
import zmq
from gevent import socket, subprocess
from gevent.event import AsyncResult
from gevent.monkey import get_original

from gzmqsource import Source
from gzmqsource.testing import wait_until
from gzmqsource.transfer import backend

_start_thread = get_original("_thread", "start_new_thread")
_select = get_original("select", "select")
_sleep = get_original("time", "sleep")

#: Seconds after which a send surely looks for commands: libzmq does so every 3,000,000 ticks of
#: the processor's clock.
COMMANDS_ARE_LOOKED_FOR = 0.004


def is_native_pass() -> bool:
    """Return whether this is the pass over the native transfer, without patching."""
    return backend == "native" and not os.environ.get("GZMQSOURCE_TEST_PATCHED")


def endpoint_of(source):
    """Where to connect to reach a bound source or socket."""
    socket = source.socket if isinstance(source, Source) else source
    return socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")


def is_readable(socket):
    """Return whether a message is there, by ``ZMQ_EVENTS``, which eats the edge."""
    return socket.get(zmq.EVENTS) & zmq.POLLIN


@contextlib.contextmanager
def process_of(*command, popen=subprocess.Popen, **options):
    """Run a program in a process of its own, and end it with the block.

    Its pipes are gevent's, so that the hub runs while one is read.
    """
    process = popen(
        [*map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):  # gevent has reaped it, and has yet to say so
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def python_process(program, *arguments, **options):
    """Run a Python program as `process_of` does."""
    return process_of(sys.executable, "-c", program, *arguments, **options)


def python_path(folder):
    """Return a ``PYTHONPATH`` with a folder in front of those that there are."""
    return os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])


def line_of(process):
    """Read a line that a process prints."""
    return process.stdout.readline().strip()


def until_at_rest(process, looks: int = 20) -> None:
    """Wait until each thread of a process sleeps, and goes on to do so.

    One that could run, on a machine that has no time for it, does not sleep.
    """
    quiet = 0
    while quiet < looks:
        quiet = quiet + 1 if _states(process.pid) == {"S"} else 0
        gevent.sleep(0.002)


def _states(pid):
    states = set()
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended since
            states.add(path.read_text().rpartition(")")[2].split()[0])
    return states


def until_nothing_moves(source) -> None:
    """Wait until a source with a full peer, most likely, tries no more to send to it."""
    quiet, before = 0, None
    while quiet < 20:
        gevent.sleep(0.005)
        sent = source.stats().sent
        quiet, before = quiet + 1 if sent == before else 0, sent


def bytes_in(pipe) -> int:
    """Return how many bytes were written to a pipe and not read yet."""
    buffer = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, buffer)
    return int.from_bytes(buffer, sys.byteorder)


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


def in_thread(function, *arguments):
    """Return what *function* returned or raised, called in a native thread without a hub."""
    result = []

    def run():
        try:
            result.append(function(*arguments))
        except BaseException as error:
            result.append(error)

    _start_thread(run, ())
    return wait_until(lambda: result)[0]


def in_the_hub(function):
    """Return or raise what *function* returns or raises in a callback of the hub."""
    result: AsyncResult[object] = AsyncResult()

    def call():
        try:
            result.set(function())
        except BaseException as error:
            result.set_exception(error)

    gevent.get_hub().loop.run_callback(call)
    return result.get(timeout=10)


def unique_inproc() -> str:
    """Return an inproc endpoint that no other call returns."""
    return f"inproc://{uuid.uuid4()}"


def until_reaped(context: zmq.Context) -> None:
    """Wait, without the hub, until libzmq has dealt with each close before this call.

    Two threads of libzmq's do so, one socket after another: the reaper, and the one that listens. A
    socket that has listened is gone when both have dealt with it. Twice, for in one turn the reaper
    may come to this socket before those that were closed earlier.
    """
    for _ in range(2):
        closed, told = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        address = unique_inproc()
        closed.bind("tcp://127.0.0.1:*")
        closed.monitor(address, zmq.EVENT_MONITOR_STOPPED)  # when it is gone for good
        told.connect(address)
        assert not told.get(zmq.EVENTS) & zmq.POLLIN
        closed.close(0)
        while not told.get(zmq.EVENTS) & zmq.POLLIN:
            assert _select([told.fileno()], [], [], 20)[0]
        told.close(0)


def close_for_good(context: zmq.Context, socket: zmq.Socket) -> None:
    """Close a socket, and wait without the hub until the next send of its peer notices."""
    socket.close(0)
    until_reaped(context)
    _sleep(COMMANDS_ARE_LOOKED_FOR)


def free_ports(count: int) -> list[str]:
    """Return ports that are free, and that nothing else takes meanwhile.

    They are below those that the kernel hands out (32768 and above on Linux), so no connection and
    no ``bind`` to port 0 gets one. Each process of tests has a range of its own.
    """
    return list(itertools.islice(_free_ports, count))


def _ports(size: int = 250):
    """Yield free ports, round and round in the first range whose first port can be held."""
    for first in range(12_000, 32_000, size):
        with contextlib.suppress(OSError), socket.socket() as held:
            held.bind(("127.0.0.1", first))
            while True:
                yield from (str(port) for port in range(first + 1, first + size) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_free_ports = _ports()

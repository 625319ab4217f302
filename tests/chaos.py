"""Faults with real processes, each many times: ``make chaos RUNS=20``.

Every message has a number and a checksum. At the end a table tells, for each fault, how many were
sent, and how many of them were lost, received twice, torn, or came out of order. What ZeroMQ does
not promise, what was under way to or from a killed process, is counted too, and marked as such. The
exit status is 1 if anything happened that is not.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pathlib
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
import zmq
from chaos_peer import BUFFER, message_of, number_of
from gevent import socket
from gevent.queue import Empty
from gevent.server import StreamServer
from helpers import endpoint_of, process_of
from namespaces import Star, why_not
from rich.console import Console
from rich.table import Table

from gzmqsource import Source, SourceBroken
from gzmqsource.testing import in_forked_child, no_leaks, wait_until

PEER = pathlib.Path(__file__).parent / "chaos_peer.py"

#: Messages of one run.
COUNT = 300


@dataclass
class Tally:
    """What became of the messages of a fault."""

    runs: int = 0
    sent: int = 0
    lost: int = 0
    twice: int = 0
    torn: int = 0
    disordered: int = 0

    def add(self, sent: int, received: list[int]) -> None:
        whole = [number for number in received if number >= 0]
        self.sent += sent
        self.lost += sent - len(set(whole))
        self.twice += len(whole) - len(set(whole))
        self.torn += len(received) - len(whole)
        self.disordered += sum(later < earlier for earlier, later in itertools.pairwise(whole))


@dataclass
class Fault:
    """A fault: ``run(tally)`` brings it about once."""

    what: str
    run: Callable[[Tally], None]
    #: Whether ZeroMQ promises that nothing is lost.
    promised: bool
    tally: Tally = field(default_factory=Tally)

    @property
    def is_good(self) -> bool:
        tally = self.tally
        harmed = tally.twice + tally.torn + tally.disordered
        return harmed == 0 and not (self.promised and tally.lost)


FAULTS: list[Fault] = []


def fault(what, promised=True):
    def add(run):
        FAULTS.append(Fault(what, run, promised))
        return run

    return add


class Peer:
    """A process of `chaos_peer`, and what it has said."""

    def __init__(self, stack, role, how, address, count=COUNT, process=None):
        command = (sys.executable, PEER, role, how, address, count)
        self.process = stack.enter_context(process(*command) if process else process_of(*command))
        self.endpoint = self.process.stdout.readline().strip()
        self.numbers = []
        self.has_ended = False
        self._listening = gevent.spawn(self._listen)

    def _listen(self):
        for line in self.process.stdout:
            if line.startswith("end"):
                self.has_ended = True
            elif line.endswith("\n"):
                self.numbers.append(int(line))

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """Kill it, and read what it had said."""
        self.process.kill()
        self.process.wait()
        self._listening.join()

    def wait_for(self, count):
        wait_until(lambda: len(self.numbers) >= count, 30)


def send_all(source, first=0, count=COUNT):
    for number in range(first, first + count):
        source.send(message_of(number), timeout=30)


def receive_all(source, count=COUNT):
    return [number_of(source.recv(timeout=30)) for _ in range(count)]


def pull(**options):
    return Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", rcvhwm=10, rcvbuf=BUFFER, **options)


def push(**options):
    return Source.open(zmq.PUSH, sndhwm=10, outbox=10, sndbuf=BUFFER, linger=0, **options)


@contextlib.contextmanager
def held(source):
    try:
        yield source
    finally:
        source.close()


def pass_all(tally):
    """Let all messages go from one source to another."""
    with held(pull()) as source, held(push(connect=endpoint_of(source))) as sender:
        sending = gevent.spawn(send_all, sender)
        received = receive_all(source)
        sending.get(timeout=30)
        tally.add(COUNT, received)


@fault("a receiving process is killed, and another takes its address", promised=False)
def _(tally):
    with contextlib.ExitStack() as stack:
        first = Peer(stack, "receive", "bind", "tcp://127.0.0.1:*")
        with held(push(connect=first.endpoint, reconnect_ivl=5)) as source:
            sending = gevent.spawn(send_all, source)
            first.wait_for(COUNT // 3)
            first.kill()
            second = Peer(stack, "receive", "bind", first.endpoint)
            sending.get(timeout=30)
            assert source.flush(timeout=30)
            last = COUNT - 1
            wait_until(lambda: second.numbers and second.numbers[-1] == last, 30)
            tally.add(COUNT, first.numbers + second.numbers)


@fault("a sending process is killed", promised=False)
def _(tally):
    with contextlib.ExitStack() as stack, held(pull()) as source:
        peer = Peer(stack, "send", "connect", endpoint_of(source), 1 << 20)
        received = receive_all(source)
        peer.kill()
        with contextlib.suppress(Empty):
            while True:
                received.append(number_of(source.recv(timeout=0.05)))
        assert received == list(range(len(received))), "a gap"
        tally.add(len(peer.numbers), received[: len(peer.numbers)])


@fault("a receiving process is stopped, and goes on")
def _(tally):
    with contextlib.ExitStack() as stack:
        peer = Peer(stack, "receive", "bind", "tcp://127.0.0.1:*")
        with held(push(connect=peer.endpoint)) as source:
            sending = gevent.spawn(send_all, source)
            peer.wait_for(COUNT // 3)
            peer.signal(signal.SIGSTOP)
            gevent.sleep(0.05)
            peer.signal(signal.SIGCONT)
            sending.get(timeout=30)
            peer.wait_for(COUNT)
            tally.add(COUNT, peer.numbers)


@fault("a sending process is stopped, and goes on")
def _(tally):
    with contextlib.ExitStack() as stack, held(pull()) as source:
        peer = Peer(stack, "send", "connect", endpoint_of(source))
        received = receive_all(source, COUNT // 3)
        peer.signal(signal.SIGSTOP)
        gevent.sleep(0.05)
        peer.signal(signal.SIGCONT)
        received += receive_all(source, COUNT - len(received))
        tally.add(COUNT, received)


@fault("a process that receives through a source is stopped for longer than its timers")
def _(tally):
    with contextlib.ExitStack() as stack:
        peer = Peer(stack, "source", "bind", "tcp://127.0.0.1:*")
        with held(Source.open(zmq.PULL, connect=peer.endpoint, rcvhwm=10)) as source:
            received = receive_all(source, COUNT // 3)
            peer.signal(signal.SIGSTOP)
            gevent.sleep(0.1)
            peer.signal(signal.SIGCONT)
            received += receive_all(source, COUNT - len(received))
            wait_until(lambda: peer.has_ended, 30)
            tally.add(COUNT, received)


@fault("a sender ends, and its successor connects to the same address")
def _(tally):
    with held(pull()) as source:
        received = []
        for session in range(3):
            with contextlib.ExitStack() as stack:
                peer = Peer(stack, "source", "connect", endpoint_of(source), COUNT // 3)
                numbers = receive_all(source, COUNT // 3)
                wait_until(lambda peer=peer: peer.has_ended, 30)
                peer.process.stdin.close()
                assert peer.process.wait(timeout=10) == 0
            received += [session * COUNT // 3 + number for number in numbers]
        tally.add(COUNT, received)


@fault("a link is cut, and healed")
def _(tally):
    if why_not():
        return
    with Star("other") as hosts, contextlib.ExitStack() as stack:
        receiver = Peer(
            stack,
            "receive",
            "bind",
            "tcp://*:*",
            process=lambda *command: hosts.process("middle", *command),
        )
        port = receiver.endpoint.rpartition(":")[2]
        sender = Peer(
            stack,
            "source",
            "connect",
            f"tcp://{hosts.middle_seen_from('other')}:{port}",
            process=lambda *command: hosts.process("other", *command),
        )
        receiver.wait_for(1)
        hosts.cut("other")
        gevent.sleep(0.05)
        hosts.heal("other")
        receiver.wait_for(COUNT)
        wait_until(lambda: sender.has_ended, 30)
        tally.add(COUNT, receiver.numbers)


@fault("a link delivers late, and a few bytes at a time")
def _(tally):
    with held(pull()) as source, contextlib.ExitStack() as stack:
        host, _, port = endpoint_of(source).removeprefix("tcp://").rpartition(":")

        def carry(reading, writing):
            with contextlib.suppress(OSError):
                while part := reading.recv(random.randint(1, 5000)):
                    gevent.sleep(0.001 * random.random())
                    writing.sendall(part)

        def relay(connection, _):
            with socket.create_connection((host, int(port))) as onward:
                back = gevent.spawn(carry, onward, connection)
                carry(connection, onward)
                back.kill()

        server = StreamServer(("127.0.0.1", 0), relay)
        server.start()
        stack.callback(server.stop)
        Peer(stack, "source", "connect", f"tcp://127.0.0.1:{server.server_port}")
        tally.add(COUNT, receive_all(source))


@fault("file descriptors are exhausted, and come back")
def _(tally):
    with held(pull()) as source, contextlib.ExitStack() as stack:
        Peer(stack, "send", "connect", endpoint_of(source))
        received = receive_all(source, COUNT // 3)
        _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.dup(0)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 8, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            with contextlib.suppress(zmq.ZMQError):
                pull().close()
                raise AssertionError("a socket was made of no descriptor")
            received += receive_all(source, COUNT // 3)
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        received += receive_all(source, COUNT - len(received))
        tally.add(COUNT, received)
        with held(pull()):
            pass


@fault("memory is exhausted, and comes back")
def _(tally):
    with held(pull()) as source, held(push(connect=endpoint_of(source))) as sender:
        sending = gevent.spawn(send_all, sender)
        received = receive_all(source, COUNT // 3)
        _, hard = limits = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        # What is left is enough for Python itself, which may hang without any.
        limit = pages * resource.getpagesize() + (1 << 24)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            with contextlib.suppress(MemoryError):
                sender.send(bytearray(1 << 26))
                raise AssertionError("there was memory")
            received += receive_all(source, COUNT // 3)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
        received += receive_all(source, COUNT - len(received))
        sending.get(timeout=30)
        tally.add(COUNT, received)


@fault("the wall clock jumps")
def _(tally):
    # Seen by Python only: to set the clock of the machine is not for a test.
    real, jumps = time.time, iter(range(1 << 30))
    time.time = lambda: real() + (-1) ** next(jumps) * 86400
    try:
        pass_all(tally)
    finally:
        time.time = real


@fault("signals arrive in every call")
def _(tally):
    arrived = []
    before = signal.signal(signal.SIGALRM, lambda *_: arrived.append(None))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        pass_all(tally)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert arrived


@fault("the context is destroyed underneath", promised=False)
def _(tally):
    context = zmq.Context()
    source = pull(context=context)
    sender = push(connect=endpoint_of(source), context=context)
    received, errors = [], []

    def receive():
        while True:
            received.append(number_of(source.recv()))

    def until_it_ends(function, *arguments):
        try:
            function(*arguments)
        except SourceBroken as error:
            errors.append(error)

    greenlets = [
        gevent.spawn(until_it_ends, send_all, sender, 0, 1 << 20),
        gevent.spawn(until_it_ends, receive),
    ]
    wait_until(lambda: len(received) > COUNT // 3)
    context.destroy(linger=0)
    gevent.joinall(greenlets, timeout=10)
    assert len(errors) == 2, "who waits is told"
    tally.add(max(received) + 1, received)


@fault("the process forks in the middle of traffic")
def _(tally):
    with held(pull()) as source, held(push(connect=endpoint_of(source))) as sender:

        def in_child():
            assert source.closed
            assert sender.closed

        sending = gevent.spawn(send_all, sender)
        received = []
        for _ in range(3):
            received += receive_all(source, COUNT // 3)
            in_forked_child(in_child)
        sending.get(timeout=30)
        tally.add(COUNT, received)


@fault("the interpreter exits with open sources")
def _(tally):
    program = (
        "import gevent, sys, zmq; from gzmqsource import Source\n"
        "sources = [Source.open(zmq.PULL, bind='tcp://127.0.0.1:*') for _ in range(10)]\n"
        "[gevent.spawn(source.recv) for source in sources]\n"
        "gevent.sleep(0.01)\n"
        "print('out', flush=True)\n"
    )
    with process_of(sys.executable, "-W", "ignore", "-c", program) as process:
        assert process.stdout.readline() == "out\n"
        assert process.wait(timeout=10) == 0
    tally.add(0, [])


@fault("peers connect and close all the time")
def _(tally):
    with no_leaks(), held(pull()) as source:
        context, endpoint = zmq.Context.instance(), endpoint_of(source)

        def come_and_go():
            for _ in range(100):
                socket = context.socket(zmq.PUSH)
                socket.linger = 0
                socket.connect(endpoint)
                socket.close()

        with held(push(connect=endpoint_of(source))) as sender:
            sending = gevent.spawn(send_all, sender)
            thread = threading.Thread(target=come_and_go)
            thread.start()
            received = receive_all(source)
            sending.get(timeout=30)
            thread.join()
            tally.add(COUNT, received)


@fault("greenlets are killed in every call")
def _(tally):
    with held(pull()) as source, held(push(connect=endpoint_of(source))) as sender:
        received = []

        def receive():
            while True:
                received.append(number_of(source.recv()))

        sending = gevent.spawn(send_all, sender)
        while len(received) < COUNT:
            victims = [gevent.spawn(receive) for _ in range(3)]
            gevent.sleep(0.001)
            gevent.killall(victims)
        sending.get(timeout=30)
        tally.add(COUNT, received)


def report(console):
    table = Table(title="faults, with sequence numbers and checksums end to end")
    for column in ("fault", "runs", "sent", "lost", "twice", "torn", "disordered", ""):
        table.add_column(column, justify="left" if column in ("fault", "") else "right")
    for each in FAULTS:
        tally = each.tally
        verdict = "as promised" if each.promised else "loss is not excluded by ZeroMQ"
        numbers = (tally.runs, tally.sent, tally.lost, tally.twice, tally.torn, tally.disordered)
        table.add_row(each.what, *map(str, numbers), verdict if each.is_good else "BROKEN")
    console.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how often each fault happens")
    parser.add_argument("--only", default="", help="part of the name of the faults to try")
    options = parser.parse_args()
    FAULTS[:] = [each for each in FAULTS if options.only in each.what]
    console = Console(width=140)
    for each in FAULTS:
        began = time.monotonic()
        for _ in range(options.runs):
            with gevent.Timeout(120):
                each.run(each.tally)
            each.tally.runs += 1
        console.print(f"{time.monotonic() - began:6.1f} s  {each.what}")
    report(console)
    return 0 if all(each.is_good for each in FAULTS) else 1


if __name__ == "__main__":
    sys.exit(main())

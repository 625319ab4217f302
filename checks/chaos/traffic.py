"""Numbered messages between this process, through sources, and others."""

from __future__ import annotations

import contextlib
import pathlib
import sys

import gevent
import zmq
from helpers import endpoint_of, process_of

from chaos.peer import BUFFER, message_of, number_of
from gzmqsource import Source
from gzmqsource.testing import wait_until

PEER = pathlib.Path(__file__).parent / "peer.py"

#: Messages of one run.
COUNT = 300


class Peer:
    """A process of `chaos.peer`, or of another such program, and what it has said."""

    def __init__(self, stack, role, how, address, count=COUNT, process=None, program=PEER):
        command = (sys.executable, program, role, how, address, count)
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

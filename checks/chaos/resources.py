"""Descriptors, memory and the clock, which are not what they were."""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import time

import gevent
import zmq
from helpers import endpoint_of

from chaos.counting import fault
from chaos.traffic import COUNT, Peer, held, pass_all, pull, push, receive_all, send_all


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

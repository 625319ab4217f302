"""Processes that end at every stage of their traffic."""

from __future__ import annotations

import itertools
import pathlib
import random
import sys

import gevent
import zmq
from gevent import subprocess
from helpers import endpoint_of, process_of

from chaos.counting import fault
from chaos.ending import MESSAGES, WAYS
from chaos.peer import BUFFER, number_of
from chaos.traffic import held
from gzmqsource import Source

PROGRAM = pathlib.Path(__file__).parent / "ending.py"

#: Seconds from one message that is read to the next: some are read when the process has ended.
PAUSE = 0.03

#: The most seconds after which one ends.
LATEST = 0.1


def end_one(tally, way):
    """Have a process end, and read what it has lent to libzmq."""
    _, status = WAYS[way]
    seconds = random.uniform(0, LATEST)
    numbers = []

    def read(message):
        gevent.sleep(PAUSE)
        numbers.append(number_of(message))

    source = Source.open(zmq.PULL, read, bind="tcp://127.0.0.1:*", rcvhwm=1, rcvbuf=BUFFER)
    with held(source):
        source.start()
        command = (sys.executable, "-W", "ignore", PROGRAM, way, seconds, endpoint_of(source))
        with process_of(*command, stderr=subprocess.PIPE) as process:
            errors = process.stderr.read()
            ended = process.wait(timeout=20)
            process.stderr.close()
    assert ended == status, f"{way}, after {seconds:.4f} s, with {ended}: {errors[-2000:]}"
    tally.add(MESSAGES, numbers)


#: The ways to end, half of them in each run.
HALVES = itertools.cycle([list(WAYS)[::2], list(WAYS)[1::2]])


@fault("processes end in every way, with lent frames, amid a slow exit of C", promised=False)
def _(tally):
    gevent.joinall([gevent.spawn(end_one, tally, way) for way in next(HALVES)], raise_error=True)

"""Mixed traffic for a long time: ``make soak MINUTES=20``.

All types of sockets talk, sources are opened and closed, greenlets are killed, requests are
answered. Every five seconds memory, descriptors, greenlets, sources, active watchers and the
latency of a request are noted. The exit status is 1 if, after the first half minute, memory or the
latency grows steadily, or anything else has grown at all.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import gevent
import memory
import zmq
from gevent.hub import get_hub
from gevent.queue import Empty
from growth import WINDOWS, steady_growth
from helpers import endpoint_of
from rich.console import Console

from gzmqsource import Source, SourceClosed, green
from gzmqsource._source import registry
from gzmqsource.testing import all_blocked, no_leaks
from gzmqsource.workers import Requester, Responder

#: Seconds between two notes.
INTERVAL = 5

#: Seconds until what is made once has been made.
WARM_UP = 30

#: Bytes by which memory may grow steadily, for each message. A run of 20 minutes, with a million
#: messages in each window of `growth`, finds a leak of one byte.
ALLOWED = 0.5

#: Who receives, who sends, and what is in front of a message to them.
PAIRS = [
    (zmq.PULL, zmq.PUSH),
    (zmq.SUB, zmq.PUB),
    (zmq.DEALER, zmq.DEALER),
    (zmq.PAIR, zmq.PAIR),
    (zmq.ROUTER, zmq.DEALER),
    (zmq.XSUB, zmq.XPUB),
    (zmq.REP, zmq.REQ),
]

TRANSPORTS = ("inproc://soak-{1}", "tcp://127.0.0.1:*", "ipc:///tmp/gzmqsource-soak-{0}-{1}")

_serial = itertools.count()
_chance = random.Random(1)


@dataclass
class Note:
    """What the process holds, and how long a request takes."""

    seconds: float
    in_use: int
    held: int
    descriptors: int
    greenlets: int
    sources: int
    watchers: int
    latency: float
    messages: int


class Soak:
    """The traffic, and what is noted of it."""

    def __init__(self):
        self.began = time.monotonic()
        self.messages = 0
        self.latencies = []
        self.notes = []
        self.errors = []
        self.is_over = False
        self.responder = Responder.open(lambda payload: payload, bind="tcp://127.0.0.1:*")
        self.responder.start()
        self.requester = Requester.open(connect=endpoint_of(self.responder.source))
        activities = (self.ask, *[self.open_and_close] * 3, self.talk_green, self.kill)
        self.greenlets = [gevent.spawn(self.repeat, each) for each in activities]

    def repeat(self, activity):
        while not self.is_over:
            try:
                activity()
            except Exception as error:
                self.errors.append(error)
                raise

    def ask(self):
        gevent.sleep(0.01)
        began = time.monotonic()
        assert self.requester.request(b"x", timeout=10) == [b"x"]
        self.latencies.append(time.monotonic() - began)

    def open_and_close(self):
        """Let two sources exchange messages, with greenlets that are killed meanwhile."""
        receiving, sending = _chance.choice(PAIRS)
        address = _chance.choice(TRANSPORTS).format(os.getpid(), next(_serial))
        options: dict[str, Any] = {"subscribe": ""} if receiving == zmq.SUB else {}
        with (
            Source.open(receiving, bind=address, linger=0, **options) as receiver,
            Source.open(sending, connect=endpoint_of(receiver), linger=0) as sender,
        ):
            if receiving == zmq.XSUB:
                receiver.send(b"\1")
            if receiving == zmq.REP:
                self._answer(receiver, sender)
                return
            killed = gevent.spawn(receiver.recv)
            pulling = gevent.spawn(self._pull, receiver)
            for _ in range(50):
                sender.send([b"x" * _chance.choice((1, 100, 100_000)), b"y"])
                gevent.sleep(0)
            killed.kill()
            pulling.join(5)

    def _pull(self, receiver):
        try:
            while True:
                self.messages += len(receiver.recv_many(10, timeout=0.05))
        except (Empty, SourceClosed):
            pass

    def _answer(self, receiver, sender):
        for _ in range(20):
            sender.send(b"question")
            receiver.recv(timeout=5)
            receiver.send(b"answer")
            sender.recv(timeout=5)
            self.messages += 2

    def talk_green(self):
        context: green.Context[green.Socket[bytes]] = green.Context()
        pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        try:
            pull.bind("inproc://green")
            push.connect("inproc://green")
            waiting = gevent.spawn(pull.recv)
            all_blocked()
            waiting.kill()
            for _ in range(50):
                push.send_multipart([b"a", b"b"])
                assert pull.poll(5000)
                assert pull.recv_multipart() == [b"a", b"b"]
            self.messages += 50
        finally:
            pull.close(0)
            push.close(0)
            context.term()

    def kill(self):
        """Kill a greenlet that asks, at any moment."""
        asking = gevent.spawn(self.requester.request, b"y", 10)
        gevent.sleep(_chance.random() / 100)
        asking.kill()

    def note(self):
        gc.collect()
        latencies, self.latencies = self.latencies, []
        greenlets = [each for each in gc.get_objects() if isinstance(each, gevent.Greenlet)]
        self.notes.append(
            Note(
                time.monotonic() - self.began,
                memory.in_use(),
                memory.held(),
                len(os.listdir("/proc/self/fd")),
                sum(not each.dead for each in greenlets),
                len(registry.live),
                get_hub().loop.activecnt,
                statistics.median(latencies),
                self.messages,
            )
        )
        return self.notes[-1]

    def end(self):
        self.is_over = True
        gevent.joinall(self.greenlets, timeout=30)
        self.requester.stop()
        self.responder.stop()

    def verdicts(self):
        """Yield what has grown since the warm-up."""
        yield from map(repr, self.errors)
        notes = [each for each in self.notes if each.seconds > WARM_UP]
        if len(notes) < 2 * WINDOWS:
            print("the run is too short to tell growth from noise")
            return
        third = len(notes) // 3
        for name in ("descriptors", "greenlets", "sources", "watchers"):
            most_before = max(getattr(each, name) for each in notes[:third])
            least_after = min(getattr(each, name) for each in notes[-third:])
            if least_after > most_before:
                yield f"{name}: at most {most_before} at first, {least_after} and more in the end"
        messages = [each.messages for each in notes]
        for name in ("in_use", "held"):
            rate = steady_growth([getattr(each, name) for each in notes], messages)
            if rate > ALLOWED:
                yield f"memory ({name}) grows by {rate:.1f} bytes and more for each message"
        latencies = [each.latency for each in notes]
        rate = steady_growth(latencies, messages, level=statistics.median)
        first = statistics.median(latencies[:third])
        if rate * (messages[-1] - messages[0]) > first:
            yield f"a request took {first * 1e3:.2f} ms at first, and takes ever longer"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    options = parser.parse_args()
    console = Console(width=120)
    zmq.Context.instance().socket(zmq.PAIR).close()  # a context opens descriptors that stay
    with no_leaks():
        verdicts = run(console, options.minutes)
    console.print("\n".join(verdicts) or "nothing has grown, and nothing is left")
    return 1 if verdicts else 0


def run(console, minutes):
    """Let it all run; give what has gone wrong."""
    soak = Soak()
    console.print(
        "seconds  in use KB    held KB  fds  greenlets  sources  watchers  latency ms   messages"
    )
    while time.monotonic() - soak.began < 60 * minutes and not soak.errors:
        gevent.sleep(INTERVAL)
        note = soak.note()
        console.print(
            f"{note.seconds:7.0f} {note.in_use >> 10:10} {note.held >> 10:10} "
            f"{note.descriptors:4} {note.greenlets:10} {note.sources:8} "
            f"{note.watchers:9} {note.latency * 1e3:11.2f} {note.messages:10}"
        )
    soak.end()
    return list(soak.verdicts())


if __name__ == "__main__":
    sys.exit(main())

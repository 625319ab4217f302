"""Brokers, workers that have joined them, and a worker that says what a test has it say."""

import contextlib

import zmq
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.broker import Broker
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester, Responder
from gzmqsource.workers._header import Header, Kind, decode

#: Seconds after which what is silent counts as dead in these tests.
SOON = 0.2


@contextlib.contextmanager
def broker_of(context, endpoint="tcp://127.0.0.1:*", **options):
    """Run a broker, which is closed at the end."""
    options = {"dead_after": SOON, "linger": 0, **options}
    broker = Broker.open(endpoint, endpoint, context=context, **options)
    broker.start()
    try:
        yield broker
    finally:
        broker.close()


@contextlib.contextmanager
def worker_of(broker, handler, spawn=1, **options):
    """Run a worker that has joined brokers, and is closed at the end."""
    brokers = broker if isinstance(broker, list) else [broker]
    options = {"dead_after": SOON, "linger": 0, "on_error": lambda *_: None, **options}
    worker = Responder.join(
        [endpoint_of(each.back) for each in brokers],
        handler,
        spawn,
        context=brokers[0].back.socket.context,
        **options,
    )
    worker.start()
    try:
        wait_until(lambda: worker.is_member)
        yield worker
    finally:
        worker.close()


@contextlib.contextmanager
def asking(broker, **options):
    """Make a requester of a broker."""
    brokers = broker if isinstance(broker, list) else [broker]
    requester = Requester.open(
        [endpoint_of(each.front) for each in brokers],
        context=brokers[0].front.socket.context,
        **{"dead_after": SOON, "linger": 0, **options},
    )
    try:
        yield requester
    finally:
        requester.close()


class ScriptedWorker:
    """A DEALER that says what a test has it say, and notes all that it is told.

    Parameters
    ----------
    broker : Broker
        What it connects to.
    credit : int
        How many requests it takes; 0 for it to say nothing by itself.
    """

    def __init__(self, broker, credit=1):
        context = broker.back.socket.context
        self.source = Source.open(
            zmq.DEALER, self._read, connect=endpoint_of(broker.back), context=context, linger=0
        )
        #: Each header that has come, with its payload.
        self.heard: list[tuple[Header, list[bytes]]] = []
        self.source.start()
        if credit:
            self.join(credit)
            self.until_heard(Kind.PING)

    def join(self, credit, left=200):
        """Say how many requests it takes."""
        self.say(Kind.JOIN, left=left, session=credit)

    def say(self, kind, key=bytes(16), payload=(), detail=0, left=0, session=0):
        """Send a control, or an answer with a payload."""
        header = Header(kind, key, detail=detail, left=left, session=session)
        self.source.send([header.encode(), *([b"", *payload] if payload else [])])

    def asked(self):
        """Return the headers and payloads of the requests that it was given."""
        return [each for each in self.heard if each[0].kind == Kind.ASK]

    def next_request(self, number=1):
        """Wait for a request, and return its key and its payload."""
        wait_until(lambda: len(self.asked()) >= number)
        header, payload = self.asked()[number - 1]
        return header.key, payload

    def until_heard(self, kind, count=1):
        """Wait until so many of a kind have come."""
        wait_until(lambda: sum(header.kind == kind for header, _ in self.heard) >= count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.source.close()

    def _read(self, message):
        self.heard.append((decode(message[0]), message[2:]))

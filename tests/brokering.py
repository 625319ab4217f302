"""Brokers, workers that have joined them, and a worker that says what a test has it say."""

import contextlib

import zmq
from asking import Asker
from gevent.event import Event
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
    """Run a worker that brokers give requests, and that is closed at the end."""
    brokers = broker if isinstance(broker, list) else [broker]
    options = {"dead_after": SOON, "linger": 0, "on_error": lambda *_: None, **options}
    worker = Responder.join(
        [endpoint_of(each.back) for each in brokers],
        handler,
        spawn,
        context=brokers[0].back.socket.context,
        **options,
    )
    others = {each.name for broker in brokers for each in broker.workers()}
    worker.start()
    try:
        wait_until(lambda: all(_has_another(each, others) for each in brokers))
        yield worker
    finally:
        worker.close()


def _has_another(broker, others):
    """Return whether a broker has a worker that takes requests and is none of the named ones."""
    return any(each.slots and each.name not in others for each in broker.workers())


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


class Sleeper:
    """A handler that waits until it may go on, and notes how that ends."""

    def __init__(self):
        self.begun, self.ended = [], []
        self.go_on = Event()

    def __call__(self, payload):
        self.begun.append(payload[0])
        try:
            self.go_on.wait()
        except BaseException as error:
            self.ended.append(type(error))
            raise
        return payload


class ScriptedBroker:
    """A ROUTER to which one worker connects, as to the back of a broker."""

    def __init__(self, context, endpoint="tcp://127.0.0.1:*"):
        self.source = Source.open(
            zmq.ROUTER, self._read, bind=endpoint, context=context, probe_router=1, linger=0
        )
        #: Each header that has come.
        self.heard: list[Header] = []
        self.source.start()

    def say(self, kind, key=bytes(16), payload=(), **fields):
        """Send a control, or a request with a payload."""
        header = Header(kind, key, **{"left": 200, **fields}).encode()
        self.source.send([self._name, header, *([b"", *payload] if payload else [])])

    def joins(self):
        """Return the key and the credit of each JOIN that has come."""
        return [(each.key, each.session) for each in self.heard if each.kind == Kind.JOIN]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.source.close()

    def _read(self, message):
        self._name = message[0]
        self.heard.append(decode(message[1]))


@contextlib.contextmanager
def having_given(context, **options):
    """Have a worker get the request of an asker; gives these, their broker, and the key."""
    with (
        broker_of(context, **options) as broker,
        Asker(context, endpoint_of(broker.front)) as asker,
        ScriptedWorker(broker) as worker,
    ):
        key = asker.ask(b"x")
        worker.next_request()
        yield broker, asker, worker, key


class ScriptedWorker:
    """A DEALER that says what a test has it say, and notes all that it is told.

    Parameters
    ----------
    broker : Broker
        What it connects to.
    credit : int
        How many requests it takes; 0 for it to say nothing by itself.
    """

    def __init__(self, broker, credit=1, **options):
        context = broker.back.socket.context
        self.source = Source.open(
            zmq.DEALER,
            self._read,
            connect=endpoint_of(broker.back),
            context=context,
            linger=0,
            **options,
        )
        #: Each header that has come, with its payload.
        self.heard: list[tuple[Header, list[bytes]]] = []
        #: What the broker calls the connection.
        self.session = bytes(16)
        self.source.start()
        if credit:
            self.join(credit)
            self.until_heard(Kind.PING, 2)

    def join(self, credit, left=200):
        """Say how many requests it takes, and before that that it is there."""
        if not any(self.session):
            self.say(Kind.JOIN, left=left)
            self.until_heard(Kind.PING)
        self.say(Kind.JOIN, self.session, left=left, session=credit)

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
        if message == [b""]:  # the connection is a new one
            return
        self.heard.append((decode(message[0]), message[2:]))
        if self.heard[-1][0].kind == Kind.PING:
            self.session = self.heard[-1][0].key

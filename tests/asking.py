"""A scripted peer that speaks the protocol of requests, and responders to speak to."""

import contextlib
import itertools

import zmq
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder
from gzmqsource.workers._header import SIZE, Detail, Flag, Header, Kind, decode, has_header

__all__ = ["Asker", "Detail", "Flag", "Header", "Kind", "key_of", "responder_of"]

_numbers = itertools.count(1)


def key_of(number=None):
    """Return a key: the same for the same number, another one each time without one."""
    return (next(_numbers) << 64 if number is None else number).to_bytes(16, "big")


@contextlib.contextmanager
def responder_of(context, handler, endpoint="tcp://127.0.0.1:*", **options):
    """Run a responder, which is closed at the end."""
    if not options.get("connect"):
        options["bind"] = endpoint
    options.setdefault("on_error", lambda *_: None)
    responder = Responder.open(handler, context=context, linger=0, **options)
    responder.start()
    try:
        yield responder
    finally:
        responder.close()


class Asker:
    """A DEALER that says what a test has it say, and notes all that it hears.

    Parameters
    ----------
    context : zmq.Context
        Its context.
    endpoint : Responder or str
        What it connects to.
    """

    def __init__(self, context, endpoint, **options):
        if not isinstance(endpoint, str):
            endpoint = endpoint_of(endpoint.source)
        self.source = Source.open(
            zmq.DEALER, self._read, connect=endpoint, context=context, linger=0, **options
        )
        #: Each header that has come, with its payload.
        self.heard: list[tuple[Header, list[bytes]]] = []
        #: The session of the last LEAVING.
        self.left = 0
        self.source.start()

    def ask(self, payload=b"x", key=None, flags=0, attempt=0, left=0, kind=Kind.ASK):
        """Send a request, and return its key."""
        key = key or key_of()
        header = Header(kind, key, flags, attempt, left=left)
        self.source.send([header.encode(), b"", payload])
        return key

    def say(self, kind, key=bytes(16), left=0):
        """Send a control; NOMORE answers the last LEAVING."""
        session = self.left if kind == Kind.NOMORE else 0
        self.source.send([Header(kind, key, left=left, session=session).encode()])

    def of(self, key, kind=None):
        """Return what has come about a request."""
        return [
            (header, payload)
            for header, payload in self.heard
            if header.key == key and kind in (None, header.kind)
        ]

    def count(self, kind):
        """Return how many of a kind have come."""
        return sum(header.kind == kind for header, _ in self.heard)

    def wait_for(self, key, kind=Kind.REPLY):
        """Wait for the end of a request, and return it."""
        wait_until(lambda: self.of(key))
        ((header, payload),) = self.of(key)
        assert header.kind == kind, header
        return payload if kind < Kind.REFUSED else header.detail

    def until_heard(self, kind, count=1):
        """Wait until so many of a kind have come."""
        wait_until(lambda: self.count(kind) >= count)

    def close(self):
        self.source.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self, message):
        frame = message[0]
        assert len(frame) == SIZE
        assert has_header(frame), message
        if len(message) > 1:
            assert message[1] == b""
        header = decode(frame)
        if header.kind == Kind.LEAVING:
            self.left = header.session
        self.heard.append((header, message[2:]))

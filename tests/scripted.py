"""A responder that does what a test says, and what it is told by an asker."""

import contextlib
from typing import Any, NamedTuple

import zmq
from helpers import endpoint_of, until_reaped

from gzmqsource import Source
from gzmqsource.workers import _header
from gzmqsource.workers._header import Detail, Flag, Header, Kind

NO_KEY = bytes(16)


class Ask(NamedTuple):
    """A request that has come."""

    route: list[bytes]
    header: Header
    payload: list[bytes]


class Scripted:
    """A ROUTER that speaks the protocol.

    It answers the first header of an asker, and each ping, with a pong, unless `pongs` is False.
    Each request is passed to ``answer(responder, ask)``.
    """

    def __init__(
        self,
        context: zmq.Context,
        answer: Any = None,
        endpoint: str = "tcp://127.0.0.1:*",
        session: int = 7,
        flags: int = 0,
    ) -> None:
        self.asks: list[Ask] = []
        #: The kinds of all that came, and the headers of all but the requests.
        self.kinds: list[Kind] = []
        self.controls: list[Header] = []
        self.pongs = True
        self.session = session
        self.flags = flags
        self._answer = answer
        self._context = context
        self._routes: list[list[bytes]] = []
        self.source = Source.open(
            zmq.ROUTER, self._received, bind=endpoint, context=context, linger=0
        )
        self.endpoint = endpoint_of(self.source)
        self.source.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Close it, and wait until its endpoint is free."""
        self.source.close()
        until_reaped(self._context)

    def keys(self, kind: Kind) -> list[bytes]:
        """Return the keys of all controls of a kind."""
        return [each.key for each in self.controls if each.kind == kind]

    def reply(self, ask: Ask, payload: Any = None, kind: Kind = Kind.REPLY, **fields: Any) -> None:
        """Send a reply: the request's own payload if none is passed."""
        head = self._about(ask, kind, **fields)
        self.source.send([*ask.route, head, b"", *(payload or ask.payload)])

    def end(self, ask: Ask, kind: Kind, detail: Detail = Detail.NONE, **fields: Any) -> None:
        """Refuse a request, or lose it."""
        self.source.send([*ask.route, self._about(ask, kind, detail=detail, **fields)])

    def refuse(self, ask: Ask, detail: Detail = Detail.FULL) -> None:
        self.end(ask, Kind.REFUSED, detail)

    def tell(self, kind: Kind, flags: int | None = None) -> None:
        """Send a control to each asker."""
        flags = self.flags if flags is None else flags
        for route in self._routes:
            head = Header(kind, NO_KEY, flags, session=self.session)
            with contextlib.suppress(zmq.ZMQError):  # it is gone
                self.source.send([*route, head.encode()])

    def _about(self, ask, kind, **fields):
        flags = self.flags | (ask.header.flags & Flag.KEEP)
        asked = {"attempt": ask.header.attempt, "session": self.session, "flags": flags}
        return Header(kind, ask.header.key, **(asked | fields)).encode()

    def _received(self, message):
        route, head, payload = message[:1], _header.decode(message[1]), message[3:]
        is_new = route not in self._routes
        if is_new:
            self._routes.append(route)
        self.kinds.append(Kind(head.kind))
        if self.pongs and (is_new or head.kind == Kind.PING):
            pong = Header(Kind.PONG, NO_KEY, self.flags, session=self.session)
            self.source.send([*route, pong.encode()])
        if head.kind != Kind.ASK:
            self.controls.append(head)
            return
        ask = Ask(route, head, payload)
        self.asks.append(ask)
        if self._answer is not None:
            self._answer(self, ask)


def echo(responder, ask):
    responder.reply(ask)

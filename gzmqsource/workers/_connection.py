"""A connection to one responder, as docs/protocol.rst specifies it for the asker."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from gzmqsource._source.source import Source
from gzmqsource.errors import SourceClosed
from gzmqsource.workers._calls import AnyCall, Outstanding, Place
from gzmqsource.workers._envelope import error_of
from gzmqsource.workers._header import KEY, NO_KEY, Detail, Flag, Header, Kind, decode, has_header
from gzmqsource.workers._quick import reader_of
from gzmqsource.workers._reasons import remote
from gzmqsource.workers._stats import EndpointStats

_PLAIN, _REPLY, _ERROR = int(Kind.ASK), int(Kind.REPLY), int(Kind.ERROR)

#: The kinds of a reply.
_ENDING = frozenset({_PLAIN, _REPLY, _ERROR})

#: The kinds of a responder's controls.
_CONTROLS = frozenset({Kind.REFUSED, Kind.LOST, Kind.PONG, Kind.LEAVING})


class State(enum.Enum):
    """The stages in the life of a connection."""

    CONNECTING = "connecting"  #: there is none, or its handshake is not over
    PROBING = "probing"  #: its peer has spoken before, but not yet again, or not any more
    LIVE = "live"  #: requests go to it
    LEAVING = "leaving"  #: its peer is about to stop, and finishes its requests
    CLOSED = "closed"  #: it is not used any more


class AnyLink(Protocol):
    """The socket of a connection."""

    source: Source | None
    #: Whether it has any number of peers.
    is_bound: bool
    #: Whether its peers are in this process.
    is_inproc: bool
    #: Whether a message that was sent may be queued in the source: libzmq has no connection.
    may_queue: bool

    def start(self) -> None:
        """Make the socket; errors of libzmq propagate."""

    def lose(self) -> None:
        """Give up the connection, and make a new one."""

    def close(self, linger: int | None = None) -> None:
        """Close the socket for good."""

    def hear_out(self) -> None:
        """Take the messages that are there."""


class Asker(Protocol):
    """A requester, as a connection uses it."""

    #: The header of a ping.
    ping: bytes

    def watch(self, connection: Any) -> None:
        """Check repeatedly whether the peer is alive."""

    def live(self, connection: Any) -> None:
        """Note that requests may go over a connection."""

    def not_live(self, connection: Any) -> None:
        """Note that no more requests may go over it."""

    def missed(self, connection: Any, why: str = "") -> None:
        """Note that the connection was lost, or cannot be made."""

    def gone(self, connection: Any) -> None:
        """Note that it is closed."""

    def answered(self, connection: Any, call: AnyCall, outcome: list[Any] | Exception) -> None:
        """End a call that was outstanding."""

    def interrupted(self, call: AnyCall, outcome: list[Any] | Exception) -> None:
        """End a call during whose end a signal handler has raised."""

    def refused(self, connection: Any, call: AnyCall, detail: int) -> None:
        """Ask another peer, or later; the call was outstanding."""

    def lost(self, connection: Any, calls: Outstanding, why: str, comes_back: bool) -> None:
        """End an attempt of each call; *comes_back* means that the next goes over *connection*."""

    def give_away(
        self, calls: Place | Outstanding, which: Callable[[AnyCall], object] = ...
    ) -> None:
        """Send to other peers calls that have waited for a connection, or were not sent yet."""

    def late(self) -> None:
        """Count a reply to a call that is over."""

    def strange(self, detail: str) -> None:
        """Count a message that no responder sends."""


class Connection:
    """A connection, the calls outstanding over it, and the state of its peer.

    Parameters
    ----------
    endpoint, address : str
        The endpoint that the user has passed, and the address for which it stands.
    asker : Asker
        The sender of the requests.
    link : callable
        ``link(connection)`` returns its `AnyLink`.
    """

    #: How many keys are remembered of calls that were given up before it is known whether the peer
    #: speaks the protocol and can be notified.
    max_untold = 1000

    #: Seconds for which nothing is sent to a peer that is about to stop, if there may be others
    #: behind the ROUTER in between. Without a pause, 116 of 32,339 requests were lost. With 0.15 s,
    #: none were lost on a quiet machine, and some in every fourth run of 20 restarts where a dozen
    #: processes share two cores.
    hold = 0.3

    def __init__(
        self,
        endpoint: str,
        address: str,
        asker: Asker,
        link: Callable[[Connection], AnyLink],
    ) -> None:
        self.endpoint = endpoint
        self.address = address
        self.state = State.CONNECTING
        #: The calls that the peer has.
        self.outstanding = Outstanding(self)
        #: The calls that it had when the connection was cut, until there is a new one.
        self.returning = Place()
        #: Whether the peer has sent a header of its own, its session, and whether it is behind a
        #: ROUTER.
        self.speaks = False
        self.session = 0
        self.routed = False
        #: Whether a message has come since the last look, and for how many looks none has.
        self.heard = False
        self.quiet = 0
        self.is_watched = False
        #: Whether it closes when nothing is outstanding any more: its address was given up.
        self.is_retired = False
        self._asker = asker
        self._spoke_here = False  # whether a header came over this very connection
        self._left = 0  # the session of the peer that was about to stop
        self._untold: deque[bytes] = deque(maxlen=self.max_untold)
        self._timer: Any = None
        #: Takes each message from the peer: `received`, or a quicker form of it.
        self.read = reader_of(self, asker)
        self.link = link(self)
        self._may_queue = self.link.may_queue and not self.link.is_bound
        if self.link.is_bound:
            self.is_watched = True  # nominally: it is unknown which of its peers would be silent

    def start(self) -> None:
        """Connect, or bind; errors of libzmq propagate."""
        self.link.start()
        if self.link.is_inproc:
            self.connected()  # libzmq reports nothing there

    def ask(self, call: AnyCall) -> None:
        """Send a request.

        Raises
        ------
        SendError, SourceClosed
            libzmq refuses it, or the socket is gone; the call is then in no place.
        """
        source = self.link.source
        if source is None:
            raise SourceClosed(f"no connection to {self.address}")
        call.place = outstanding = self.outstanding
        outstanding[call.key] = call
        try:
            if not source._shortcut_send_now(call.frames):
                source.send(call.frames, False)
        except BaseException:
            del outstanding[call.key]
            raise
        if self._may_queue or (self.speaks and not self.is_watched):
            self._look_after_send(source)

    def cancel(self, call: AnyCall) -> None:
        """Notify the peer that the caller no longer waits for a call that the peer has."""
        source = self.link.source
        if source is None or source.closed:
            return
        if self.link.may_queue and source.withdraw(call.frames):
            return
        if self.link.is_bound:
            return  # any peer would get it
        if self.speaks:
            self._tell(Kind.CANCEL, call.key)
        elif self.state is State.LIVE:
            self._untold.append(call.key)

    def send_ping(self) -> None:
        """Ask whether the peer's hub is alive."""
        self._send(self._asker.ping)

    def silent(self) -> None:
        """Note that the peer has been silent for too long."""
        self._become(State.PROBING)
        self._lose_all(f"nothing came from {self.address}", False)

    def unanswered(self) -> None:
        """Note that pings had no answer for long: the peer may not speak the protocol any more."""
        if self._spoke_here and not self.link.is_bound:
            self.link.lose()
        else:
            self.speaks = False
            self._become(State.LIVE)

    def give_away(self) -> None:
        """Give away the calls that wait for this connection."""
        if self.returning:
            self._asker.give_away(self.returning)

    def retire(self) -> None:
        """Send no more requests over it, and close once nothing is outstanding."""
        self.is_retired = True
        if self.state is not State.CLOSED:
            self.give_away()
            if not self.outstanding or self.state is State.CONNECTING:
                self.close(None)
            else:
                self._become(State.LEAVING)

    def close(self, linger: int | None) -> None:
        """Close it, and cancel all outstanding calls."""
        source = self.link.source
        if self.outstanding and self.speaks and source is not None and not source.closed:
            self._tell(Kind.CANCEL)
        was_used = self.state in (State.LIVE, State.LEAVING, State.PROBING)
        self._become(State.CLOSED)
        self.link.close(linger if was_used else 0)
        self._asker.gone(self)  # last: if an exception comes before, this is called again

    def snapshot(self) -> EndpointStats:
        """Return its current state."""
        state, outstanding = self.state.value, len(self.outstanding)
        return EndpointStats(
            self.endpoint, self.address, state, outstanding, self.speaks, self.session
        )

    # The reports of the link.

    def connected(self) -> None:
        """Note that messages reach the peer; a peer that has spoken before must do so again.

        Over inproc, the link reports this when its greenlet begins. The peer may be live by then.
        """
        if self.state is not State.CONNECTING:
            return
        self.quiet = 0
        self.heard = self._spoke_here = False
        if self.speaks and not self.link.is_bound:
            self._become(State.PROBING)
            self.send_ping()
        else:
            self._become(State.LIVE)

    def failed(self) -> None:
        """Note that an attempt to connect has failed: calls that wait for it go to other peers."""
        self._asker.missed(self)
        self.give_away()

    def disconnected(self) -> None:
        """Note that the connection was cut."""
        self._become(State.CONNECTING)
        self._untold.clear()
        self._lose_all(f"the connection to {self.address} was lost", True)
        if self.is_retired:
            self.close(0)

    def salvage(self, message: list[Any], _error: BaseException) -> None:
        """Take a message again, if a signal handler has raised before it had an effect."""
        if len(message) == 1 or bytes(message[0])[KEY] in self.outstanding:
            self.received(message)

    def received(self, message: list[Any]) -> None:
        """Take a message from the peer."""
        self.heard = True
        head = message[0]
        if type(head) is not bytes:
            head = bytes(head)
        # A key cannot be guessed, so a frame that contains it in the right place is a header.
        call = self.outstanding.get(head[KEY])
        if call is None or len(message) < 3 or message[1]:
            self._received_other(message, head)
            return
        kind = head[4]
        outcome: Any = message[2:]
        if kind != _REPLY:
            if kind == _ERROR or (kind == _PLAIN and len(outcome) > 2):
                error = error_of(kind, outcome)
                outcome = outcome if error is None else remote(error, call, self.address)
            elif kind != _PLAIN:
                self._received_other(message, head)
                return
        if kind != _PLAIN and not self.speaks:
            self._spoke(decode(head))
        del self.outstanding[call.key]
        try:
            self._asker.answered(self, call, outcome)
        except BaseException:
            self._asker.interrupted(call, outcome)
            raise

    def _received_other(self, message: list[Any], head: bytes) -> None:
        """Take a message that is not the reply to a call."""
        is_header = has_header(head)
        if is_header and len(message) == 1 and head[4] in _CONTROLS:
            self._control(decode(head))
        elif is_header and head[4] in _ENDING and len(message) > 2 and not message[1]:
            self._asker.late()
        else:
            self._asker.strange(f"{len(message)} frames, {head[:40]!r}")

    def _control(self, head: Header) -> None:
        """Take a control about the peer itself, or about the end of an attempt."""
        self._spoke(head)
        if head.kind == Kind.LEAVING:
            if not self.link.is_bound:
                self._send(Header(Kind.NOMORE, NO_KEY, session=head.session).encode())
            self._leave()
        elif head.kind in (Kind.REFUSED, Kind.LOST):
            call = self.outstanding.get(head.key)
            attempt = 0 if call is None or call.past is None else min(call.past.attempt, 255)
            if call is None or head.attempt != attempt:
                return
            del self.outstanding[head.key]
            if head.kind == Kind.REFUSED:
                if head.detail == Detail.LEAVING:
                    self._leave()
                self._asker.refused(self, call, head.detail)
            else:
                lost = Outstanding(self)
                lost[call.key] = call
                call.place = lost
                self._asker.lost(
                    self, lost, f"its handler at {self.address} was ended or lost", False
                )

    def _spoke(self, head: Header) -> None:
        """Note a header that the peer itself has made."""
        self.routed = bool(head.flags & Flag.ROUTED)
        is_known = self._spoke_here and head.session == self.session
        is_new = self._spoke_here and not is_known
        is_pinged = self.state is State.PROBING
        self.session = head.session
        self._spoke_here = True
        if not self.speaks:
            self.speaks = True
            while self._untold:
                self._tell(Kind.CANCEL, self._untold.popleft())
        if is_new and not self.routed and not self.link.is_bound:
            self._lose_all(f"{self.address} was started again", False)
        if self.state is State.PROBING:
            # One that was held up in its stop goes on with it, and counts on our NOMORE.
            leaves = is_known and head.session == self._left and not self.routed
            self._become(State.LEAVING if leaves else State.LIVE)
        if self.outstanding and not self.is_watched:
            self._asker.watch(self)
        if not (is_known or is_pinged or self.routed or self.link.is_bound):
            self.send_ping()  # the peer watches this process from its first ping on

    def _leave(self) -> None:
        """Send no more requests over a connection whose peer is about to stop."""
        if self.link.is_bound or self.state not in (State.LIVE, State.LEAVING):
            return
        self._left = self.session
        self._become(State.LEAVING)
        self._stop_timer()
        if not self.is_watched:
            self._asker.watch(self)
        if not self.routed:
            self.give_away()
        elif self.link.source is not None:
            self._timer = self.link.source._core.hub.loop.timer(self.hold, self.hold)
            self._timer.start(self._go_on, update=True)

    def _go_on(self) -> None:
        """Send requests again over a connection behind which there may be other peers."""
        if self.state is State.LEAVING and not self.is_retired:
            self._become(State.LIVE)
        self._stop_timer()  # last: if an exception comes before, this is called again

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _become(self, state: State) -> None:
        if self.state is State.CLOSED or state is self.state:
            return
        if self.is_retired and state is State.LIVE:
            state = State.LEAVING
        was, self.state = self.state, state
        self.quiet = 0
        if state is not State.LEAVING:
            self._stop_timer()
        if was is State.LIVE:
            self._asker.not_live(self)
        if state is State.LIVE:
            self._asker.live(self)
        elif state is State.PROBING and not self.is_watched:
            self._asker.watch(self)

    def _lose_all(self, why: str, comes_back: bool) -> None:
        """End an attempt of all outstanding calls."""
        self._asker.missed(self, why)
        if not self.outstanding:
            return
        source = self.link.source
        if self.link.may_queue and source is not None and not source.closed:
            self._asker.give_away(self.outstanding, lambda call: source.withdraw(call.frames))
        self._asker.lost(self, self.outstanding, why, comes_back and not self.is_retired)

    def _look_after_send(self, source: Source) -> None:
        """Watch the peer, and note if libzmq has no connection: nothing reports that for inproc."""
        if self.speaks and not self.is_watched:
            self._asker.watch(self)
        if self._may_queue and source._core.outbox.has_queued:
            self.link.lose()
            self._become(State.CONNECTING)

    def _tell(self, kind: Kind, key: bytes = NO_KEY) -> None:
        self._send(Header(kind, key).encode())

    def _send(self, control: bytes) -> None:
        source = self.link.source
        if source is not None and not source.closed:
            source.send([control], False)
            if self._may_queue and source._core.outbox.has_queued:
                source.withdraw([control])
                self.link.lose()
                self._become(State.CONNECTING)

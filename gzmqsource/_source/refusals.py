"""The errors of calls that a source refuses: they name the source, the rule, and the fix."""

from __future__ import annotations

from typing import Any, Protocol

import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.exceptions import BlockingSwitchOutError
from gevent.queue import Empty

from gzmqsource._base.deadline import check_timeout
from gzmqsource._base.event import Event
from gzmqsource._base.late import LateText
from gzmqsource._base.reports import peer_of
from gzmqsource._socket import HubSocket
from gzmqsource._socket.linger import SENDS_NOTHING
from gzmqsource.errors import (
    InvalidThreadUseError,
    SendError,
    SourceBroken,
    SourceClosed,
    SourceForked,
)
from gzmqsource.transfer.message import PER_PEER, Message, as_frames

#: The type at the other end of a type that only sends, or only receives.
_OTHER_ENDS = {zmq.PUSH: "PULL", zmq.PUB: "SUB", zmq.PULL: "PUSH", zmq.SUB: "PUB"}

#: The rule for types that send and receive in turn.
_TURNS = {
    zmq.REQ: "a REQ sends its next request after it has received a reply: use a DEALER for several",
    zmq.REP: "a REP replies once to each request that it has received: use a ROUTER for others",
}


#: ``ZMQ_TOPICS_COUNT``; not every pyzmq has its name.
_TOPICS_COUNT = 116


class Refusing(Protocol):
    """A source, as this module uses it."""

    hub: Any
    kind: zmq.SocketType
    resumed: Event
    socket: HubSocket
    cause: zmq.ZMQError | None


def wrong_hub(source: Refusing) -> InvalidThreadUseError:
    """Return the error of a call in a hub other than the source's."""
    if source.hub.loop is None:
        return InvalidThreadUseError(f"{source!r}: its hub was destroyed: make a new source")
    return InvalidThreadUseError(
        f"{source!r} belongs to the hub of another thread: receive there, and "
        "send through a handle from its sender()"
    )


def too_late(source: Refusing, is_forked: bool, state: str) -> SourceClosed:
    """Return the error of a call on a source whose *state* allows no calls any more."""
    error: SourceClosed
    if is_forked:
        error = SourceForked(
            f"{source!r} was made in the parent process: make a new one after the fork"
        )
    elif source.cause is not None:
        error = SourceBroken(f"{source!r} lost its socket: {source.cause}; make a new source")
    else:
        error = SourceClosed(f"{source!r} is {state}: make a new one")
    error.__cause__ = source.cause
    return error


def cannot_wait(stopped: object, call: str) -> BlockingSwitchOutError:
    """Return the error of a stop that would have to wait in a callback of the hub."""
    return BlockingSwitchOutError(
        f"{stopped!r}: its stop has to wait, but a callback of the hub, such as a signal handler, "
        f"cannot wait: gevent.spawn({call})"
    )


def check_block(block: object, timeout: float | None) -> float | None:
    """Check the arguments of a call that may wait; return the timeout.

    A call with a number in the place of *block*, or with a pyzmq flag, would wait forever.

    Raises
    ------
    TypeError, ValueError
        One of them is invalid.
    """
    if block is not True and block is not False:
        raise TypeError(
            f"block={block!r}: whether to wait, True or False: pass seconds as timeout=..., and "
            "block=False in place of zmq.NOBLOCK"
        )
    return check_timeout(timeout)


def nothing_came(source: Refusing, timeout: float | None) -> Empty:
    """Return the error of a receive that found nothing; *timeout* is None if it did not wait."""
    return Empty(LateText(_why_empty, source, timeout))


def no_room(source: Refusing, timeout: float | None) -> LateText:
    """Return the text of `gevent.queue.Full`; *timeout* is None if the send did not wait."""
    return LateText(_why_full, source, timeout)


def receives_nothing(source: Refusing) -> zmq.ZMQError:
    """Return the error of a receive from a type that only sends."""
    reason, other = zmq.strerror(zmq.ENOTSUP), _OTHER_ENDS[source.kind]
    return zmq.ZMQError(
        zmq.ENOTSUP,
        f"{source!r}: {reason}: a {source.kind.name} only sends: receive from the {other} at the "
        "other end",
    )


def not_sent(source: Refusing, error: zmq.ZMQError, message: Message) -> SendError:
    """Return the error of a message that libzmq refuses."""
    frames = as_frames(message)
    return SendError(error, frames, LateText(_why_refused, source, error, frames))


def _why_empty(source: Refusing, timeout: float | None) -> str:
    when = "now" if timeout is None else f"within {timeout:g} s"
    text = f"{source!r}: no message {when}"
    if not source.resumed.is_set():
        return f"{text}, for it is paused: call resume()"
    if has_topics(source) is False:
        return f"{text}, for it subscribes to nothing: {HOW_TO_SUBSCRIBE}"
    return text


def has_topics(source: Refusing) -> bool | None:
    """Return whether a source subscribes to a topic; None if that is unknown, or it has no topics.

    libzmq before 4.3.5 does not count topics.
    """
    if source.kind not in (zmq.SUB, zmq.XSUB) or get_hub_if_exists() is not source.hub:
        return None
    try:
        return source.socket.transfer.option(_TOPICS_COUNT) > 0
    except zmq.ZMQError:
        return None


#: The fix for a source that has no topics.
HOW_TO_SUBSCRIBE = "pass subscribe='' for everything, or call source.socket.subscribe(topic)"


def _why_full(source: Refusing, timeout: float | None) -> str:
    when = "now" if timeout is None else f"within {timeout:g} s"
    whose = "the outbox for that peer" if source.kind in PER_PEER else "the outbox"
    return (
        f"{source!r}: {whose} had no room {when}: its peers read too slowly, or none is connected"
    )


def _why_refused(source: Refusing, error: zmq.ZMQError, frames: list[Any]) -> str:
    kind = source.kind
    hint = ""
    if error.errno == zmq.EHOSTUNREACH:
        hint = f"no peer has the routing id {peer_of(frames[0])}: it is gone, or has not connected"
    elif error.errno == zmq.ENOTSUP and kind in SENDS_NOTHING:
        hint = f"a {kind.name} only receives: send through the {_OTHER_ENDS[kind]} at the other end"
    elif error.errno == zmq.EFSM:
        hint = _TURNS.get(kind, "")
    text = f"{source!r}: {error.strerror}"
    return f"{text}: {hint}" if hint else text

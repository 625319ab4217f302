"""Texts for requests without a reply: which request, to which server, and how to fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from gzmqsource.errors import PeerLost, RemoteError, RequestTimeout

if TYPE_CHECKING:
    from gzmqsource.workers._calls import AnyCall


class Dispatching(Protocol):
    """A dispatcher, as this module uses it."""

    #: The calls that wait for room, and those that are held back after a refusal.
    wanting: Any
    held: Any

    def asked_over(self, call: AnyCall) -> Any:
        """Return the connection over which a call is outstanding, or None."""


_SLOW = "its handler takes longer, or was not started"


def name_of(call: AnyCall) -> str:
    """Return the name of a request in a text; the log of a responder has the whole key."""
    return f"request {call.key.hex()[:8]}"


def timed_out(who: object, dispatcher: Dispatching, call: AnyCall, servers: str) -> RequestTimeout:
    """Return the error of a call whose time is over; *servers* are the endpoints of the user.

    Call this before the call leaves its place.
    """
    connection = dispatcher.asked_over(call)
    if connection is not None:
        what, hint = "no reply", f" from {connection.address}: {_SLOW}"
    elif call.place is dispatcher.wanting:
        what = "no room"
        hint = ", for max_outstanding of them have no reply: raise it, or ask less at a time"
    elif call.place is dispatcher.held:
        what = "refused by each peer that was asked, and no reply"
        hint = f" from {servers}: as many wait there as may: add servers, or raise max_waiting"
    elif call.past is None:
        what = "no connection, so it was never sent"
        hint = f": is a server bound to {servers}, and reachable?"
    else:
        what, hint = "sent, and no reply", f": its server was lost; is one bound to {servers}?"
    return RequestTimeout(f"{who!r}: {name_of(call)}: {what} within {call.timeout:g} s{hint}")


def lost(call: AnyCall, why: str, is_spent: bool) -> PeerLost:
    """Return the error of a call whose server was lost.

    Parameters
    ----------
    call : AnyCall
        The call.
    why : str
        The text on the loss of the server.
    is_spent : bool
        Whether it could be sent again, but too many were recently.
    """
    text = f"{name_of(call)}: {why}, before the reply"
    if is_spent:
        fix = "too many were sent again recently; retry_budget bounds how many may be"
    elif call.past is not None and call.past.attempt:
        fix = f"it was sent {call.past.attempt + 1} times, and may have been handled"
    else:
        fix = "it may have been handled; with retries=1 it is sent again"
    return PeerLost(f"{text}: {fix}")


def remote(error: RemoteError, call: AnyCall, peer: str) -> RemoteError:
    """Add the origin to an error that a reply reports; its text stays the handler's own."""
    error.peer = peer
    if hasattr(error, "add_note"):  # since Python 3.11
        error.add_note(f"raised by the handler at {peer}, in {name_of(call)}")
    return error

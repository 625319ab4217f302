"""A request from a thread that does not own the requester: the owner's hub makes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.hubs import call_in_hub
from gzmqsource._base.warning import LimitedWarning
from gzmqsource.errors import RequestTimeout, SourceClosed
from gzmqsource.workers._calls import ForeignCall

#: Seconds after which a hub that has not looked at a request is late, and for which a reply that it
#: may be about to read is waited for once the time is over.
PATIENCE = 1.0

_warn_idle = LimitedWarning(
    logging.getLogger("gzmqsource.workers"), "a request waits for a hub that does not run: %s"
)


def ask(
    hub: Any,
    posted: set[ForeignCall],
    begin: Callable[[Any], object],
    give_up: Callable[[ForeignCall], object],
    who: object,
    call: ForeignCall,
) -> list[Any]:
    """Have another hub make a request, and wait for its reply.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The owner's hub.
    posted : set of ForeignCall
        Has the call until that hub has it. The owner ends those that are left when it closes.
    begin, give_up : callable
        Called with the call, in that hub: to begin with it, even if its caller no longer waits, and
        when its caller no longer waits.
    who : object
        The owner, whose repr is in errors.
    call : ForeignCall
        The request.
    """

    def adopt() -> None:
        call.adopted = True
        posted.discard(call)
        if call.place is not None and call.key in call.place:
            return  # an exception of a signal handler has come into the first call
        try:
            begin(call)
        except Exception as error:
            call.settle(error)

    posted.add(call)  # first: the thread may end at any moment
    try:
        if not call_in_hub(hub, adopt):
            raise SourceClosed(f"{who!r}: the thread that has made it has ended")
        _wait(call, who)
    except BaseException as error:
        call.set(error)
        raise
    finally:
        posted.discard(call)
        if call.value is None or isinstance(call.value, BaseException):
            call_in_hub(hub, give_up, call)
    if isinstance(call.value, list):
        return call.value
    raise call.value


def _wait(call: ForeignCall, who: object) -> None:
    """Wait until the call has ended, or its time is over."""
    timeout = call.timeout
    deadline = Deadline(timeout)
    if call.wait(PATIENCE if timeout is None else min(timeout, PATIENCE)):
        return
    if not call.adopted:
        _warn_idle(repr(who))
    if call.wait(deadline.left()):
        return
    if call.adopted:
        reason, fix = "no reply", "the handler of its server takes longer"
        if call.wait(PATIENCE):  # the owner's hub is late, and has the last word
            return
    else:
        reason = "the hub of the thread that has made it did not run, so the request was not sent"
        fix = "let that thread wait in gevent"
    # A reply that comes at this very moment counts.
    call.set(RequestTimeout(f"{who!r}: {reason} within {timeout:g} s: {fix}"))

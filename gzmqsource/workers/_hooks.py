"""Hooks: methods of a program that are called for each request, at either end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gzmqsource._base.reports import text_of
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.failures import ENDING
from gzmqsource.workers._calls import AnyCall
from gzmqsource.workers._current import Request

_failed = LimitedWarning(logging.getLogger("gzmqsource.workers"), "a hook raised: %s")


class Hook:
    """Called for each request of a `Requester` or `Responder`; override the methods you want.

    A hook runs in the greenlet of the caller or of the handler, and must not wait. An exception
    that it raises is logged, and changes nothing for the request. It can store its own data as
    attributes of the request.

    Three exceptions end the request: a `gevent.GreenletExit`, because a hook that raises it cannot
    be distinguished from a greenlet that is killed, `SystemExit` and `KeyboardInterrupt`. A
    `gevent.Timeout` is logged. If a hook waits nevertheless, that includes a timeout of the caller
    that is over meanwhile, and the request goes on without it. If a request of
    `Requester.submit` has its outcome by then, that is its result, and the hub gets the exception.
    """

    __module__ = "gzmqsource.workers"

    def before(self, request: Request) -> None:
        """Look at a request that is about to be sent for the first time, or handled."""

    def after(self, request: Request, reply: list[Any]) -> None:
        """Look at a request that has its reply; at the responder, before the reply is sent."""

    def error(self, request: Request, error: BaseException) -> None:
        """Look at a request that ends without a reply, with the exception of the caller or handler.

        The exception may be a `gevent.GreenletExit`. If a handler returns although its request was
        cancelled, or it was killed, this is the exception of the cancellation or the kill.
        """


def checked(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Return hooks as a tuple.

    Raises
    ------
    TypeError
        They are not objects with the methods of a `Hook`.
    """
    rule = "an iterable of Hook objects"
    if not isinstance(hooks, Iterable):
        raise TypeError(f"hooks={hooks!r}: {rule}: put it into a list")
    each = tuple(hooks)
    for hook in each:
        if isinstance(hook, type):
            raise TypeError(f"hooks={list(each)!r}: {rule}: make one of {hook.__name__}")
        if not all(hasattr(hook, name) for name in ("before", "after", "error")):
            raise TypeError(f"hooks={list(each)!r}: {rule}: derive {hook!r} from Hook")
    return each


def call(hooks: Sequence[Hook], name: str, *arguments: Any) -> None:
    """Call a method of each hook, and log exceptions that it raises, except `ENDING`."""
    for hook in hooks:
        try:
            getattr(hook, name)(*arguments)
        except ENDING:
            raise
        except BaseException as error:
            _failed(f"{type(hook).__name__}.{name}: {text_of(error)}")


def before(hooks: Sequence[Hook], asked: AnyCall, peer: str) -> Request:
    """Call `Hook.before` for a request that is about to be sent, and return the request."""
    deadline = None if asked.timeout is None else time.monotonic() + asked.timeout
    request = Request(asked.key, 0, asked.frames[2:], peer, deadline)
    call(hooks, "before", request)
    return request


def after(
    hooks: Sequence[Hook], asked: AnyCall, request: Request, outcome: list[Any] | BaseException
) -> None:
    """Call `Hook.after` or `Hook.error` for a request that has ended."""
    if asked.past is not None:
        request.attempt = asked.past.attempt
    if asked.place is not None and asked.place.connection is not None:
        request.peer = asked.place.connection.endpoint
    name = "error" if isinstance(outcome, BaseException) else "after"
    call(hooks, name, request, outcome)


def around(
    hooks: Sequence[Hook], asked: AnyCall, peer: str, ask: Callable[[Any], list[Any]]
) -> list[Any]:
    """Return the result of ``ask(asked)``, with the hooks, if any, called before and after it."""
    if not hooks:
        return ask(asked)
    request = before(hooks, asked, peer)
    try:
        reply = ask(asked)
    except BaseException as error:
        after(hooks, asked, request, error)
        raise
    after(hooks, asked, request, reply)
    return reply

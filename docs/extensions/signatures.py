"""The types in the signatures of the reference, by names that a reader of it knows."""

from __future__ import annotations

import re

_FRAME = "~collections.abc.Buffer | ~zmq.Frame"

#: What is shown for a name: of a private type, or of a class where its project does not document
#: it.
SHOWN = {
    "AnyMessage": f"{_FRAME} | ~collections.abc.Iterable[{_FRAME}]",
    "Answer": "~collections.abc.Callable[[list], object]",
    "AsyncResult": "~gevent.event.AsyncResult",
    "Endpoints": "str | ~collections.abc.Iterable[str]",
    "Resolve": "~collections.abc.Callable[[str], ~collections.abc.Iterable[str]]",
    "Self": "~typing.Self",
    "Topics": "str | bytes | ~collections.abc.Iterable[str | bytes]",
    "gzmqsource._source.registry.Registered": "~gzmqsource.Source",
    "gzmqsource.green._context._ContextT": "ContextT",
    "gzmqsource.green._device._DeviceContext": "~zmq.Context",
    "gzmqsource.testing._T": "T",
    "prometheus_client.metrics_core.Metric": "~prometheus_client.Metric",
    "prometheus_client.registry.CollectorRegistry": "~prometheus_client.CollectorRegistry",
    "zmq.backend.cython._zmq.Frame": "~zmq.Frame",
    "zmq.error.ZMQError": "~zmq.ZMQError",
    "zmq.sugar.frame.Frame": "~zmq.Frame",
    "zmq.sugar.context.Context": "~zmq.Context",
    "zmq.sugar.socket.Socket": "~zmq.Socket",
    "zmq.sugar.tracker.MessageTracker": "~zmq.MessageTracker",
}

#: How Sphinx writes a name that is an alias, where it is part of a union.
_ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")

_NAME = re.compile(r"(?<![\w.~])~?[A-Za-z_][\w.]*")


def show(
    _app: object,
    _what: object,
    _name: object,
    _object: object,
    _options: object,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Return a signature and the type of its result, as the pages show them."""
    return _shown(signature), _shown(result)


def _shown(text: str | None) -> str | None:
    if text is None:
        return None
    text = _ALIAS.sub(r"\1", text)
    return _NAME.sub(lambda found: SHOWN.get(found[0].removeprefix("~"), found[0]), text)

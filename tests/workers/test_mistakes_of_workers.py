"""Mistakes with what is built on sources, and what they raise: the object, the rule, the fix."""

import functools
import math

import pytest
import zmq
from gevent.queue import Empty
from mistakes import (
    Authenticator,
    Broker,
    Monitor,
    Proxy,
    Requester,
    Responder,
    closed_monitor,
    closed_requester,
    closed_socket,
    coroutine,
    handle,
    mistake,
    proxy,
    raised_in_thread,
    raw,
    request,
    requester,
    responder,
    second_authenticator,
    second_monitor,
    takes_none,
)

from gzmqsource import InvalidThreadUseError, SourceClosed
from gzmqsource.metrics import SourceCollector
from gzmqsource.workers import Hook, RequestTimeout

REQUESTERS = {
    "no server": (
        lambda _: Requester(),
        ValueError,
        r"a Requester needs an endpoint: pass connect=\.\.\. or bind=",
    ),
    "None as server": (
        lambda scene: requester(scene, None),
        TypeError,
        "connect=None: an endpoint",
    ),
    "a server without a port": (
        lambda scene: requester(scene, "tcp://localhost"),
        zmq.ZMQError,
        "tcp://localhost: it has no port",
    ),
    "a server without a scheme": (
        lambda scene: requester(scene, "127.0.0.1:5555"),
        zmq.ZMQError,
        "connect a DEALER to 127.0.0.1:5555: .*use tcp://127.0.0.1:5555",
    ),
    "seconds as text": (
        lambda scene: requester(scene, dead_after="1"),
        TypeError,
        r"dead_after='1': seconds from 0\.02 to 2000000",
    ),
    "no seconds": (
        lambda scene: requester(scene, dead_after=0),
        ValueError,
        r"dead_after=0: seconds from 0\.02 to 2000000",
    ),
    "endless seconds": (
        lambda scene: requester(scene, dead_after=math.inf),
        ValueError,
        r"dead_after=inf: seconds from 0\.02 to 2000000",
    ),
    "more seconds than a header has": (
        lambda scene: requester(scene, dead_after=1e308),
        ValueError,
        r"dead_after=1e\+308: seconds from 0\.02 to 2000000",
    ),
    "a budget as text": (
        lambda scene: requester(scene, retry_budget="all"),
        TypeError,
        "retry_budget='all': a part of the requests",
    ),
    "no look": (
        lambda scene: requester(scene, resolve_every=0),
        ValueError,
        "resolve_every=0: seconds",
    ),
    "a text to resolve": (
        lambda scene: requester(scene, resolve="dns"),
        TypeError,
        "resolve='dns': a function, or None",
    ),
    "a hook alone": (
        lambda scene: requester(scene, hooks=Hook()),
        TypeError,
        "an iterable of Hook objects: put it into a list",
    ),
    "a class of hooks": (
        lambda scene: requester(scene, hooks=[Hook]),
        TypeError,
        "an iterable of Hook objects: make one of Hook",
    ),
    "what is no hook": (
        lambda scene: requester(scene, hooks=[handle]),
        TypeError,
        "an iterable of Hook objects: derive <function handle .* from Hook",
    ),
    "an option of its own": (
        lambda scene: requester(scene, outbox=5),
        ValueError,
        "outbox: a Requester sets this itself; max_outstanding is its bound",
    ),
    "nobody listens": (
        lambda scene: request(scene, timeout=0.05),
        RequestTimeout,
        r"request [0-9a-f]{8}: no connection, so it was never sent within 0\.05 s: "
        r"is a server bound to tcp://127\.0\.0\.1:1, and reachable\?",
    ),
    "a timeout as text": (
        lambda scene: request(scene, timeout="5"),
        TypeError,
        "timeout='5': a timeout is seconds",
    ),
    "a timeout that is no number": (
        lambda scene: request(scene, timeout=math.nan),
        ValueError,
        "timeout=nan: a timeout is seconds",
    ),
    "a text as payload": (
        lambda scene: request(scene, message="x", timeout=5),
        TypeError,
        "a frame is bytes, got the str 'x': encode it first",
    ),
    "fewer than no retries": (
        lambda scene: request(scene, retries=-1),
        ValueError,
        "retries=-1: how often to send again",
    ),
    "retries that are nothing": (
        lambda scene: request(scene, retries=None),
        ValueError,
        "retries=None: how often to send again",
    ),
    "a priority that is nothing": (
        lambda scene: request(scene, priority=[]),
        ValueError,
        "priority=\\[\\]: which requests go first",
    ),
    "too high a priority": (
        lambda scene: request(scene, priority=256),
        ValueError,
        "priority=256: which requests go first",
    ),
    "a request after the end": (
        closed_requester,
        SourceClosed,
        "<Requester .* takes no more requests, for it was stopped: make a new one",
    ),
}

RESPONDERS = {
    "no endpoint": (
        lambda scene: responder(scene, bind=()),
        ValueError,
        "a Responder needs an endpoint: pass bind=",
    ),
    "a coroutine function": (
        lambda scene: responder(scene, coroutine),
        TypeError,
        "the handler coroutine is a coroutine function, which does nothing",
    ),
    "a handler without an argument": (
        lambda scene: responder(scene, takes_none),
        TypeError,
        "takes_none takes 0 arguments, and is called with one",
    ),
    "a source in place of the handler": (
        lambda scene: Responder(handle, scene.router),
        TypeError,
        "the handler <Source ROUTER .* cannot be called",
    ),
    "a socket in place of the source": (
        lambda scene: Responder(raw(scene), handle),
        TypeError,
        r"a Responder is made with a gzmqsource\.Source; Responder\.open\(\) makes its own",
    ),
    "a PULL": (
        lambda scene: Responder(scene.pull, handle),
        ValueError,
        "<Source PULL .*: a Responder answers through a ROUTER or a DEALER",
    ),
    "a source with a handler": (
        lambda scene: Responder(scene.open(zmq.ROUTER, handle), handle),
        ValueError,
        "has a handler already: open it without one for a Responder",
    ),
    "a policy of its own": (
        lambda scene: responder(scene, overflow="block"),
        TypeError,
        r"overflow=\.\.\.: a server sets this itself",
    ),
    "fewer than none that wait": (
        lambda scene: responder(scene, max_waiting=-1),
        ValueError,
        "max_waiting=-1: how many may wait",
    ),
    "seconds as text, at the responder": (
        lambda scene: responder(scene, dead_after="1"),
        TypeError,
        r"dead_after='1': seconds from 0\.02 to 2000000",
    ),
    "more seconds than a timer has": (
        lambda scene: responder(scene, dead_after=4294967),
        ValueError,
        r"dead_after=4294967: seconds from 0\.02 to 2000000",
    ),
    "replies that are kept for ever": (
        lambda scene: responder(scene, dedup=math.inf),
        ValueError,
        "dedup=inf: seconds from 0 to 2000000",
    ),
    "endless seconds, at the broker": (
        lambda scene: Broker(scene.router, scene.open(zmq.ROUTER), dead_after=math.inf),
        ValueError,
        r"dead_after=inf: seconds from 0\.02 to 2000000",
    ),
    "no broker": (
        lambda scene: Responder.join([], handle, context=scene.context),
        ValueError,
        "a Responder needs a broker to join: pass the endpoint of its back",
    ),
    "a worker that reports only once it is connected": (
        lambda scene: Responder.join(
            "tcp://127.0.0.1:1", handle, context=scene.context, IMMEDIATE=1
        ),
        ValueError,
        "immediate: a worker sets this itself",
    ),
    "a broker with a PULL": (
        lambda scene: Broker(scene.pull, scene.router),
        ValueError,
        "<Source PULL .*: a Broker has a ROUTER at each end",
    ),
    "a broker with one source": (
        lambda scene: Broker(scene.router, scene.router),
        ValueError,
        "a Broker has two sources, one for each end",
    ),
    "a broker with sockets": (
        lambda scene: Broker(raw(scene), raw(scene)),
        TypeError,
        r"a Broker is made with a gzmqsource\.Source; Broker\.open\(\) makes its own",
    ),
    "a back that drops": (
        lambda scene: Broker(scene.router, scene.open(zmq.ROUTER, overflow="drop_newest")),
        ValueError,
        "the back of a Broker drops nothing: open it without overflow",
    ),
}

OTHERS = {
    "a monitor of nothing": (
        lambda _: Monitor("tcp://127.0.0.1:5555"),
        TypeError,
        r"a Monitor watches a Source or a zmq\.Socket",
    ),
    "a monitor of a closed socket": (
        lambda scene: Monitor(closed_socket(scene)),
        zmq.ZMQError,
        "is closed: it has no events",
    ),
    "events by their name": (
        lambda scene: Monitor(scene.pull, "connected"),
        TypeError,
        r"events='connected': bits of zmq\.Event, as zmq\.EVENT_CONNECTED",
    ),
    "an event that is misspelt": (
        lambda scene: scene.keep(Monitor(scene.pull)).wait_for("conected"),
        ValueError,
        "'conected' is not an event: use one of connected, ",
    ),
    "no event in time": (
        lambda scene: scene.keep(Monitor(scene.pub)).recv(timeout=0.01),
        Empty,
        r"<Monitor of <Source PUB .*: no event within 0\.01 s",
    ),
    "no such event in time": (
        lambda scene: scene.keep(Monitor(scene.pub)).wait_for("connected", timeout=0.01),
        Empty,
        r"<Monitor of .*: no 'connected' event within 0\.01 s",
    ),
    "a monitor in another thread": (
        lambda scene: raised_in_thread(scene.keep(Monitor(scene.pub)).recv),
        InvalidThreadUseError,
        "belongs to the hub of another thread: receive and close there",
    ),
    "a second monitor": (
        second_monitor,
        SourceClosed,
        "its socket has another monitor: a socket has one at a time",
    ),
    "a closed monitor": (closed_monitor, SourceClosed, "it is closed: make a new one"),
    "an authenticator of nothing": (
        lambda _: Authenticator("context"),
        TypeError,
        "context='context': a zmq.Context, or None",
    ),
    "a second authenticator": (
        second_authenticator,
        ValueError,
        "has an authenticator already: configure or stop that one",
    ),
    "a host as address": (
        lambda scene: Authenticator(scene.context).allow("localhost"),
        ValueError,
        r"'localhost': an IP address such as '10\.0\.0\.1', a network such as",
    ),
    "passwords in place of the domain": (
        lambda scene: Authenticator(scene.context).configure_plain({"ann": "secret"}),
        TypeError,
        "^domain=<dict>: a ZAP domain is a str; name the other arguments$",
    ),
    "passwords as bytes": (
        lambda scene: Authenticator(scene.context).configure_plain(passwords={"ann": b"secret"}),
        TypeError,
        r"^passwords=\.\.\.: a mapping of names to passwords, all str, or a rule$",
    ),
    "a rule that is a coroutine function": (
        lambda scene: Authenticator(scene.context).configure_curve(location=coroutine),
        TypeError,
        "the rule coroutine is a coroutine function",
    ),
    "a number as folder of keys": (
        lambda scene: Authenticator(scene.context).configure_curve(location=5),
        TypeError,
        "location=5: the folder of the keys",
    ),
    "a proxy of endpoints": (
        lambda _: Proxy("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556"),
        TypeError,
        "a proxy passes messages between zmq sockets, made by socket",
    ),
    "a proxy of sources": (
        lambda scene: Proxy(scene.pull.socket, scene.push.socket),
        ValueError,
        "belongs to a source already, or to a proxy: use that one",
    ),
    "a proxy through which nothing passes": (
        functools.partial(proxy, kinds=(zmq.PUSH, zmq.PUSH)),
        ValueError,
        "no message passes between a PUSH and a PUSH: give a proxy PULL and PUSH",
    ),
    "a proxy of REQ and REP": (
        functools.partial(proxy, kinds=(zmq.REP, zmq.REQ)),
        ValueError,
        "a REP takes turns with its peer: give a proxy ROUTER and DEALER",
    ),
    "a capture that cannot send": (
        functools.partial(proxy, kinds=(zmq.PULL, zmq.PUSH, zmq.PULL)),
        ValueError,
        "a PULL as capture sends nothing: use a PUB",
    ),
    "a proxy that was not started": (
        lambda scene: Proxy(raw(scene, zmq.PULL), raw(scene, zmq.PUSH)).stats(),
        SourceClosed,
        "<Proxy not started>: start it first",
    ),
}

MISTAKES = {**REQUESTERS, **RESPONDERS, **OTHERS}


@pytest.mark.parametrize(("make", "error", "pattern"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_raises_with_its_rule_and_its_fix(scene, make, error, pattern):
    mistake(scene, make, error, pattern)


@pytest.mark.usefixtures("collector")
def test_a_second_collector_is_refused(registry):
    with pytest.raises(ValueError, match="have a SourceCollector already"):
        SourceCollector(registry)

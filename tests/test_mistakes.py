"""Mistakes of users who open a source, and what they are told: the object, the rule, the fix.

A mistake is a function of a `Scene`, the class of the error, and a pattern of its text.
"""

import concurrent.futures
import functools
from typing import Any

import pytest
import zmq
from mistakes import (
    Scene,
    Source,
    closed_socket,
    handle,
    mistake,
    needs_a_name,
    requester,
    takes_none,
    takes_two,
    terminated,
)

pytestmark = pytest.mark.once

ENDPOINTS = {
    "an endpoint without a scheme": (
        lambda scene: scene.try_to_open(bind="127.0.0.1:5555"),
        zmq.ZMQError,
        r"bind a PULL to 127\.0\.0\.1:5555: it has no transport, .* use tcp://127\.0\.0\.1:5555",
    ),
    "an endpoint without a port": (
        lambda scene: scene.try_to_open(zmq.PUSH, connect="tcp://127.0.0.1"),
        zmq.ZMQError,
        r"connect a PUSH to tcp://127\.0\.0\.1: it has no port: use tcp://127\.0\.0\.1:PORT",
    ),
    "an empty endpoint": (
        lambda scene: scene.try_to_open(bind=""),
        zmq.ZMQError,
        r"bind a PULL to '': it has no transport",
    ),
    "a large port to bind": (
        lambda scene: scene.try_to_open(bind="tcp://127.0.0.1:99999"),
        zmq.ZMQError,
        r"bind to tcp://127\.0\.0\.1:99999: a port is at most 65535",
    ),
    "a large port to bind later": (
        lambda scene: scene.pull.socket.bind("tcp://127.0.0.1:65536"),
        zmq.ZMQError,
        "a port is at most 65535",
    ),
    "a port with a letter": (
        lambda scene: scene.try_to_open(bind="tcp://127.0.0.1:5x55"),
        zmq.ZMQError,
        "bind to tcp://127.0.0.1:5x55: '5x55' is not a port: it is a number up to 65535",
    ),
    "a negative port": (
        lambda scene: scene.pull.socket.bind("tcp://127.0.0.1:-1"),
        zmq.ZMQError,
        "'-1' is not a port",
    ),
    "a port with a letter to connect to": (
        lambda scene: scene.try_to_open(connect="tcp://127.0.0.1:0x10"),
        zmq.ZMQError,
        "'0x10' is not a port",
    ),
    "a large port of a server": (
        lambda scene: requester(scene, "tcp://localhost:70000"),
        zmq.ZMQError,
        "a port is at most 65535",
    ),
    "port 0 of a peer": (
        lambda scene: scene.try_to_open(zmq.PUSH, connect="tcp://127.0.0.1:0"),
        zmq.ZMQError,
        "port 0 is for bind, which chooses one: connect to the one",
    ),
    "a star to connect to": (
        lambda scene: scene.try_to_open(zmq.PUSH, connect="tcp://*:5555"),
        zmq.ZMQError,
        r"only for bind: use tcp://127\.0\.0\.1:5555",
    ),
    "a host that is not known": (
        lambda scene: scene.try_to_open(bind="tcp://nowhere.invalid:5555"),
        zmq.ZMQError,
        r"is a name, and bind takes an address or an interface: use tcp://\*:5555",
    ),
    "an address of another machine": (
        lambda scene: scene.try_to_open(bind="tcp://192.0.2.1:5555"),
        zmq.ZMQError,
        "this machine does not have that address: bind to one that it has",
    ),
    "an unknown transport": (
        lambda scene: scene.try_to_open(bind="http://127.0.0.1:5555"),
        zmq.ZMQError,
        "http is not a transport of ZeroMQ: an endpoint is tcp://HOST:PORT",
    ),
    "a transport of other types": (
        lambda scene: scene.try_to_open(bind="udp://127.0.0.1:5555"),
        zmq.ZMQError,
        "bind a PULL to udp.* this type of socket does not use that transport",
    ),
    "an address in use": (
        lambda scene: scene.try_to_open(bind=scene.bound),
        zmq.ZMQError,
        "Address already in use: a PULL of this process is bound to it: stop or close",
    ),
    "a name in use": (
        lambda scene: scene.try_to_open(bind=scene.endpoint),
        zmq.ZMQError,
        "Address already in use: a ROUTER of this process",
    ),
    "an ipc path that is too long": (
        lambda scene: scene.try_to_open(bind=f"ipc://{'x' * 200}"),
        zmq.ZMQError,
        "a path has at most .* bytes: choose a shorter one",
    ),
    "an ipc path without its folder": (
        lambda scene: scene.try_to_open(bind=f"ipc://{scene.folder}/none/socket"),
        zmq.ZMQError,
        "No such file or directory: make the folder of the path first",
    ),
    "a number as endpoint": (
        lambda scene: scene.try_to_open(bind=5555),
        TypeError,
        "bind=5555: an endpoint is a str, as 'tcp://",
    ),
    "numbers as endpoints": (
        lambda scene: scene.try_to_open(zmq.PUSH, connect=[5555]),
        TypeError,
        "connect=5555: an endpoint is a str, as 'tcp://",
    ),
    "what is not bound": (
        lambda scene: scene.pull.socket.unbind("tcp://127.0.0.1:1"),
        zmq.ZMQError,
        "cannot unbind a PULL from tcp://.* it was not bound or connected there",
    ),
}


def open_limited(scene, name, value):
    limited: Any = type("Limited", (Source,), {name: value})
    scene.keep(limited.open(zmq.PULL, context=scene.context))


OPENING = {
    "a type by its name": (
        lambda scene: scene.try_to_open("PULL"),
        TypeError,
        r"socket_type='PULL': a type of pyzmq's, as zmq\.PULL",
    ),
    "an option that is misspelt": (
        lambda scene: scene.try_to_open(snd_hwm=5),
        AttributeError,
        r"snd_hwm=\.\.\.: a socket has no such option: is it sndhwm\?",
    ),
    "an option that is none": (
        lambda scene: scene.try_to_open(nonsense=5),
        AttributeError,
        r"nonsense=\.\.\.: a socket has no such option; parameters of Source.open",
    ),
    "a text for a number": (
        lambda scene: scene.try_to_open(sndhwm="5"),
        TypeError,
        r"sndhwm=\.\.\.: the value is an int, got str$",
    ),
    "a text for bytes": (
        lambda scene: scene.try_to_open(curve_serverkey="secret"),
        TypeError,
        r"^curve_serverkey=\.\.\.: the value is bytes, got str: encode it$",
    ),
    "a value that libzmq refuses": (
        lambda scene: scene.try_to_open(sndhwm=-5),
        zmq.ZMQError,
        r"sndhwm=\.\.\.: libzmq refuses .* for a PULL: Invalid argument; see zmq_setsockopt",
    ),
    "an option of another type": (
        lambda scene: scene.try_to_open(router_mandatory=1),
        zmq.ZMQError,
        r"router_mandatory=\.\.\.: libzmq refuses .* for a PULL",
    ),
    "topics of a PULL": (
        lambda scene: scene.try_to_open(subscribe="a"),
        zmq.ZMQError,
        "subscribe='a': a PULL has no topics, only a SUB has",
    ),
    "topics of an XSUB": (
        lambda scene: scene.try_to_open(zmq.XSUB, subscribe="a"),
        zmq.ZMQError,
        r"an XSUB sends b'\\x01' and the topic",
    ),
    "a number as topic": (
        lambda scene: scene.try_to_open(zmq.SUB, subscribe=5),
        TypeError,
        "subscribe=5: a topic is a str or bytes; '' is everything",
    ),
    "a context that is none": (
        lambda _: Source.open(zmq.PULL, context="inproc"),
        TypeError,
        "context='inproc': a zmq.Context, or None",
    ),
    "a terminated context": (
        lambda _: Source.open(zmq.PULL, context=terminated()),
        zmq.ZMQError,
        "was terminated: pass another context",
    ),
    "an endpoint in place of the handler": (
        lambda scene: scene.try_to_open(zmq.PULL, "tcp://127.0.0.1:*"),
        TypeError,
        "cannot be called, and is with each message: pass a function of one argument",
    ),
    "a handler without an argument": (
        lambda scene: scene.try_to_open(zmq.PULL, takes_none),
        TypeError,
        "the handler takes_none takes 0 arguments, and is called with one: the list of the frames",
    ),
    "a handler of two": (
        lambda scene: scene.try_to_open(zmq.PULL, takes_two),
        TypeError,
        "the handler takes_two takes 2 arguments, and is called with one",
    ),
    "a partial handler of too many": (
        lambda scene: scene.try_to_open(zmq.PULL, functools.partial(takes_two, 1, 2)),
        TypeError,
        "the handler takes_two takes 0 arguments",
    ),
    "a method that is not bound": (
        lambda scene: scene.try_to_open(zmq.PULL, Scene.keep),
        TypeError,
        r"the handler Scene\.keep takes 2 arguments",
    ),
    "a handler that needs a name": (
        lambda scene: scene.try_to_open(zmq.PULL, needs_a_name),
        TypeError,
        "needs_a_name needs arguments by their names, and gets none",
    ),
    "a handler for a PUSH": (
        lambda scene: scene.try_to_open(zmq.PUSH, handle),
        ValueError,
        "Source with a handler: a PUSH socket receives nothing",
    ),
    "an executor to spawn": (
        lambda scene: scene.try_to_open(
            zmq.PULL, handle, spawn=concurrent.futures.ThreadPoolExecutor()
        ),
        TypeError,
        r"spawn=<concurrent.*: use None, an int, a gevent Pool, or gevent\.spawn",
    ),
    "no worker": (
        lambda scene: scene.try_to_open(zmq.PULL, handle, spawn=0),
        ValueError,
        "spawn=0: at least one greenlet",
    ),
    "no outbox": (
        lambda scene: scene.try_to_open(zmq.PUSH, outbox=0),
        ValueError,
        "outbox=0: the bound is an int of at least 1 message",
    ),
    "a policy that is none": (
        lambda scene: scene.try_to_open(zmq.PUSH, overflow="drop"),
        ValueError,
        "overflow='drop': use one of block, raise, drop_newest, drop_oldest",
    ),
    "an on_error that is none": (
        lambda scene: scene.try_to_open(zmq.PUSH, on_error="log"),
        TypeError,
        "on_error='log': a function, or None",
    ),
    **{
        f"a {name} of {value!r}": (
            functools.partial(open_limited, name=name, value=value),
            TypeError if isinstance(value, str) else ValueError,
            f"{name}={value!r}: {rule}",
        )
        for name, value, rule in [
            ("max_messages", 0, "the bound is an int of at least 1"),
            ("max_batch", 0, "the bound is an int of at least 1"),
            ("max_bytes", 1.5, "the bound is an int of at least 1"),
            ("max_seconds", "1", "seconds, from 0 up"),
            ("quiet", -1, "seconds, from 0 up"),
            ("max_delay", -1, "seconds, from 0 up"),
            ("min_delay", -1, "seconds, from 0 up"),
            ("stop_timeout", -1, "a timeout is seconds from 0 up, or None"),
        ]
    },
    "a socket's type in place of a socket": (
        lambda _: Source(zmq.PULL),
        TypeError,
        r"a source owns a zmq\.Socket, made by socket\(\) of a zmq\.Context",
    ),
    "two sources on one socket": (
        lambda scene: Source(scene.pull._core.raw),
        ValueError,
        "belongs to a source already, or to a proxy: use that one",
    ),
    "the socket of a source": (
        lambda scene: Source(scene.pull.socket),
        ValueError,
        "belongs to a source already",
    ),
    "a closed socket": (
        lambda scene: Source(closed_socket(scene)),
        zmq.ZMQError,
        "closed> is closed: make a new one",
    ),
}

MISTAKES = {**ENDPOINTS, **OPENING}


@pytest.mark.parametrize(("make", "error", "pattern"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_of_opening_is_refused_with_its_rule_and_its_fix(scene, make, error, pattern):
    mistake(scene, make, error, pattern)

"""Mistakes in the calls of a source, and what they raise: the object, the rule, the fix."""

import math
import pickle

import gevent
import pytest
import zmq
from gevent.queue import Empty, Full
from mistakes import counts_topics, handle, mistake, raised_in_thread, raising_frames

from gzmqsource import InvalidThreadUseError, SendError, SourceClosed
from gzmqsource.testing import wait_until

MISTAKES = {
    "recv on a PUSH": (
        lambda scene: scene.push.recv(),
        zmq.ZMQError,
        "<Source PUSH .*: a PUSH only sends: receive from the PULL at the other end",
    ),
    "recv on a PUB, with a timeout": (
        lambda scene: scene.pub.recv_many(2, timeout=5),
        zmq.ZMQError,
        "a PUB only sends: receive from the SUB",
    ),
    "iterating over a PUSH": (
        lambda scene: next(iter(scene.push)),
        zmq.ZMQError,
        "a PUSH only sends",
    ),
    "send on a PULL": (
        lambda scene: scene.pull.send(b"x"),
        SendError,
        "<Source PULL .*: a PULL only receives: send through the PUSH at the other end",
    ),
    "send_nowait on a SUB": (
        lambda scene: scene.sub.send_nowait(b"x"),
        SendError,
        "a SUB only receives: send through the PUB",
    ),
    "send on the sender of a PULL": (
        lambda scene: scene.pull.sender().send(b"x"),
        SendError,
        "a PULL only receives",
    ),
    "two requests of a REQ": (
        lambda scene: [scene.req.send(b"x") for _ in range(2)],
        SendError,
        "a REQ sends its next request after it has received a reply: use a DEALER",
    ),
    "a peer that is not there": (
        lambda scene: scene.router.send([b"nobody", b"x"]),
        SendError,
        "Host unreachable: no peer has the routing id 'nobody': it is gone, or has not connected",
    ),
    "recv beside a handler": (
        lambda scene: scene.served.recv(),
        TypeError,
        r"has a handler, .*: open it without a handler to receive with recv\(\)",
    ),
    "recv in another thread": (
        lambda scene: raised_in_thread(scene.pull.recv),
        InvalidThreadUseError,
        "<Source PULL .* belongs to the hub of another thread: receive there, and send through",
    ),
    "send in another thread": (
        lambda scene: raised_in_thread(scene.push.send, b"x"),
        InvalidThreadUseError,
        r"<Source PUSH .* send through a handle from its sender\(\)",
    ),
    "nothing came in time": (
        lambda scene: scene.pull.recv(timeout=0.01),
        Empty,
        r"^<Source PULL tcp://.* started>: no message within 0\.01 s$",
    ),
    "nothing is there": (
        lambda scene: scene.pull.recv(block=False),
        Empty,
        "^<Source PULL tcp://.* started>: no message now$",
    ),
    "nothing came for recv_many": (
        lambda scene: scene.pull.recv_many(5, timeout=0.01),
        Empty,
        r"<Source PULL .*no message within 0\.01 s",
    ),
    "no room in time": (
        lambda scene: scene.full.send(b"x", timeout=0.01),
        Full,
        r"<Source PUSH .*: the outbox had no room within 0\.01 s: its peers read too slowly, or",
    ),
    "no room now": (
        lambda scene: scene.full.send_nowait(b"x"),
        Full,
        "<Source PUSH .*: the outbox had no room now",
    ),
    "no room for a sender": (
        lambda scene: scene.sender.send(b"x", timeout=0.01),
        Full,
        r"<Source PUSH .*no room within 0\.01 s",
    ),
    "no room for another thread": (
        lambda scene: raised_in_thread(scene.sender.send, b"x", timeout=0.01),
        Full,
        r"<Source PUSH .*no room within 0\.01 s",
    ),
    "no room now for another thread": (
        lambda scene: raised_in_thread(scene.sender.send_nowait, b"x"),
        Full,
        "<Source PUSH .*no room now",
    ),
    "seconds in the place of block": (
        lambda scene: (scene.check(), scene.pull.recv(5)),
        TypeError,
        r"block=5: whether to wait, True or False: pass seconds as timeout=",
    ),
    "a flag of pyzmq's": (
        lambda scene: scene.pull.recv(zmq.NOBLOCK),
        TypeError,
        "block=False in place of zmq.NOBLOCK",
    ),
    "seconds in the place of block of a full send": (
        lambda scene: scene.full.send(b"x", 5),
        TypeError,
        "block=5: whether to wait",
    ),
    "a timeout as text": (
        lambda scene: scene.pull.recv(timeout="5"),
        TypeError,
        "timeout='5': a timeout is seconds from 0 up, or None",
    ),
    "a negative timeout": (
        lambda scene: scene.push.flush(timeout=-1),
        ValueError,
        "timeout=-1: a timeout is seconds from 0 up",
    ),
    "a timeout that is no number": (
        lambda scene: scene.push.send(b"x", timeout=math.nan),
        ValueError,
        "timeout=nan: a timeout is seconds",
    ),
    "a stop with a text": (
        lambda scene: scene.pull.stop("now"),
        TypeError,
        "timeout='now': a timeout is seconds",
    ),
    "no messages": (
        lambda scene: scene.pull.recv_many(0),
        ValueError,
        "limit=0: how many messages, an int of at least 1",
    ),
    "a fraction of a message": (
        lambda scene: scene.pull.recv_many(2.5),
        TypeError,
        r"limit=2\.5: how many messages, an int",
    ),
    "a text": (
        lambda scene: scene.push.send("text"),
        TypeError,
        "a frame is bytes, got the str 'text': encode it first",
    ),
    "None": (
        lambda scene: scene.push.send(None),
        TypeError,
        "a frame is bytes-like or a zmq.Frame, got NoneType: serialise it first",
    ),
    "a dict": (
        lambda scene: scene.push.send({b"key": 1}),
        TypeError,
        "a message is a list of frames, got a dict: serialise it first",
    ),
    "a set": (
        lambda scene: scene.push.send({b"one", b"two"}),
        TypeError,
        "a message is a list of frames, got a set",
    ),
    "a list in a list": (
        lambda scene: scene.push.send([[b"frame"]]),
        TypeError,
        "a frame is bytes-like .* got list",
    ),
    "numbers": (
        lambda scene: scene.push.send([1, 2]),
        TypeError,
        "a frame is bytes-like .* got int",
    ),
    "no frame": (
        lambda scene: scene.push.send([]),
        ValueError,
        "a message needs at least one frame",
    ),
    "a generator that raises": (
        lambda scene: scene.push.send(raising_frames()),
        RuntimeError,
        "in the generator",
    ),
    "no routing id": (
        lambda scene: scene.router.send(b"x"),
        ValueError,
        "a message to a ROUTER or STREAM is the peer's routing id and then its frames",
    ),
    "to withdraw a text": (
        lambda scene: scene.full.withdraw("waits"),
        TypeError,
        "a frame is bytes, got the str 'waits'",
    ),
    "a second handler": (
        lambda scene: scene.served.set_handle(handle),
        ValueError,
        "has a handler already",
    ),
    "a handler of a PUSH": (
        lambda scene: scene.push.set_handle(handle),
        ValueError,
        "a PUSH socket receives nothing",
    ),
    "recv after close": (
        lambda scene: scene.gone.recv(),
        SourceClosed,
        "<Source PULL closed> is closed: make a new one",
    ),
    "a sender after close": (
        lambda scene: scene.gone.sender(),
        SourceClosed,
        "is closed: make a new one",
    ),
    "a start after close": (
        lambda scene: scene.gone.start(),
        SourceClosed,
        "is closed: make a new one",
    ),
}


@pytest.mark.parametrize(("make", "error", "pattern"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistaken_call_raises_with_its_rule_and_its_fix(scene, make, error, pattern):
    mistake(scene, make, error, pattern)


@counts_topics
def test_a_sub_that_has_no_topic_says_how_to_subscribe(scene):
    how = r"for it subscribes to nothing: pass subscribe='' for everything, or call source\.socket"
    with pytest.raises(Empty, match=how):
        scene.sub.recv(timeout=0.01)
    scene.sub.socket.subscribe("weather")
    with pytest.raises(Empty, match=r"no message within 0\.01 s$"):
        scene.sub.recv(timeout=0.01)


def test_a_paused_source_says_that_it_is(scene):
    scene.pull.pause()
    with pytest.raises(Empty, match=r"for it is paused: call resume\(\)"):
        scene.pull.recv(timeout=0.01)


def test_a_send_that_waited_for_a_source_that_closes_names_it(scene):
    here = gevent.spawn(scene.full.send, b"x")
    elsewhere = gevent.spawn(raised_in_thread, scene.sender.send, b"x")
    lanes = scene.full._core.outbox.lanes
    wait_until(lambda: sum(len(lane.waiting) for lane in lanes.values()) == 2)
    scene.full.close()
    for get in here.get, elsewhere.get:
        with pytest.raises(SourceClosed, match="<Source PUSH closed> is closed: make a new one"):
            get(timeout=5)


def test_the_text_of_an_error_can_be_pickled(scene):
    with pytest.raises(Empty) as raised:
        scene.pull.recv(block=False)
    assert "no message now" in str(pickle.loads(pickle.dumps(raised.value)))

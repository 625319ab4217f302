"""Bounds in bytes: of one lane, of all lanes together, and of a real server's memory."""

import random

import gevent
import pytest
import zmq
from gevent.queue import Full
from helpers import _sleep, _start_thread, closing, line_of, python_process

from gzmqsource import Source
from gzmqsource._source.lane import Lane
from gzmqsource._source.outbox import Outbox
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.transfer import weight_of
from gzmqsource.transfer.message import FRAME_OVERHEAD, as_message

#: What a message of one frame of 10 bytes counts, and one of a peer's name of 1 byte and 10 bytes.
LONE, ADDRESSED = 10 + FRAME_OVERHEAD, 11 + 2 * FRAME_OVERHEAD


def no_look():
    """There is no libzmq that could make room."""


def put(outbox, message, block=True):
    outbox.put(message, block, None, lambda: no_look, no_look)


def put_until_full(outbox, *message):
    count = 0
    try:
        while True:
            put(outbox, as_message(message), block=False)
            count += 1
    except Full:
        return count


def outbox_of(lanes, most, overflow="block", each=1 << 30):
    return Outbox(10_000, overflow, per_peer=lanes, lane_bytes=each, all_bytes=most)


def leave(outbox, key, count):
    for _ in range(count):
        outbox.lanes[key].queue.popleft()
    outbox.settle({key: count})


@pytest.mark.parametrize(
    "message", [b"", b"x" * 10, [b"x", b""], [b"xy", zmq.Frame(b"z" * 70_000)]]
)
def test_a_frame_counts_its_bytes_and_some_more(message):
    frames = message if isinstance(message, list) else [message]
    assert weight_of(message) == sum(len(frame) + FRAME_OVERHEAD for frame in frames)


def test_a_lane_holds_so_many_bytes():
    outbox = outbox_of(lanes=False, most=1, each=3 * LONE)
    assert put_until_full(outbox, b"x" * 10) == 3
    assert outbox.bytes == 3 * LONE
    leave(outbox, None, 1)
    assert put_until_full(outbox, b"x" * 11) == 0
    assert put_until_full(outbox, b"x" * 10) == 1


def test_a_message_that_is_alone_may_be_larger():
    outbox = outbox_of(lanes=True, most=1, each=1)
    assert put_until_full(outbox, b"a", b"x" * 1000) == 1
    assert put_until_full(outbox, b"b", b"x" * 1000) == 1
    leave(outbox, b"a", 1)
    assert put_until_full(outbox, b"a", b"x" * 1000) == 1


def test_a_message_that_is_larger_waits_until_it_is_alone():
    outbox = outbox_of(lanes=True, most=1 << 30, each=3 * ADDRESSED)
    assert put_until_full(outbox, b"a", b"x" * 10) == 3
    waiting = gevent.spawn(put, outbox, [b"a", b"x" * 1000])
    for _ in range(3):
        all_blocked()
        assert not waiting.dead
        leave(outbox, b"a", 1)
    waiting.get(timeout=5)
    assert put_until_full(outbox, b"a", b"") == 0


def test_a_busy_source_keeps_the_bound_to_the_byte(context):
    with closing(Source.open(zmq.PUSH, context=context, outbox_bytes=20 * LONE, linger=0)) as (s,):
        for _ in range(20):
            s.send(b"x" * 10)
        with pytest.raises(Full):
            s.send_nowait(b"")
        assert s.stats().outbox_bytes == 20 * LONE
        assert s.withdraw(b"x" * 10)
        s.send(b"x" * 10)
        assert s.stats().outbox_bytes == 20 * LONE


def test_what_arrives_counts_too():
    outbox = outbox_of(lanes=False, most=1, each=3 * LONE)
    for _ in range(3):
        outbox.post(b"x" * 10, False, None, no_look)
    with pytest.raises(Full):
        outbox.post(b"x" * 10, False, None, no_look)
    outbox.accept_arrivals()
    assert outbox.bytes == 3 * LONE


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_dropping_policies_hold_for_bytes(overflow):
    outbox = outbox_of(lanes=False, most=1, each=4 * LONE, overflow=overflow)
    for letter in b"abcd":
        put(outbox, bytes([letter]) * 10)
    put(outbox, b"e" * (LONE + 10))  # takes the room of two
    left = [message[:1] for message in outbox.lanes[None].queue]
    assert left == (
        [*(b"c", b"d", b"e")] if overflow == "drop_oldest" else [b"a", b"b", b"c", b"d"]
    )
    assert outbox.dropped == {overflow.removeprefix("drop_"): 2 if "old" in overflow else 1}


def test_a_small_message_does_not_pass_a_large_one_that_waits():
    outbox = outbox_of(lanes=False, most=1, each=4 * LONE)
    assert put_until_full(outbox, b"x" * 10) == 4
    waiting = [gevent.spawn(put, outbox, b"y" * size) for size in (LONE + 10, 10)]
    all_blocked()
    leave(outbox, None, 1)
    all_blocked()
    assert not any(each.dead for each in waiting)
    assert put_until_full(outbox, b"") == 0
    leave(outbox, None, 1)
    waiting[0].get(timeout=5)
    all_blocked()
    assert not waiting[1].dead
    leave(outbox, None, 1)
    waiting[1].get(timeout=5)


def test_peers_that_do_not_read_share_and_leave_room_for_one_that_does():
    outbox = outbox_of(lanes=True, most=100 * ADDRESSED)
    held = [put_until_full(outbox, bytes([letter]), b"x" * 10) for letter in b"abcd"]
    assert held == [50, 25, 13, 6]  # a half of what is free, each
    assert put_until_full(outbox, b"e", b"x" * 10) == 3
    assert outbox.bytes <= 100 * ADDRESSED


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_a_greedy_peer_takes_no_message_of_another(overflow):
    outbox = outbox_of(lanes=True, most=100 * ADDRESSED, overflow=overflow)
    for _ in range(10):
        put(outbox, [b"h", b"x" * 10])
    for _ in range(1000):
        put(outbox, [b"g", b"x" * 10])
    for _ in range(10):
        put(outbox, [b"h", b"x" * 10])
    assert outbox.lanes[b"h"].depth == 20
    assert outbox.lanes[b"g"].depth == 45


def blocked_on_others(count):
    """An outbox that one lane fills, and a greenlet for each of others, that hold one already."""
    outbox = outbox_of(lanes=True, most=100 * ADDRESSED)
    peers = [bytes([letter]) for letter in range(count)]
    for peer in peers:
        put(outbox, [peer, b"x" * 10])
    for number in range(5):  # as if it had come before the others
        put(outbox, [b"filler" + bytes([number]), b"x" * (100 * ADDRESSED)])
    waiting = [gevent.spawn(put, outbox, [peer, b"x" * 10]) for peer in peers]
    all_blocked()
    assert not any(each.dead for each in waiting)
    return outbox, peers, waiting


def test_what_one_peer_reads_lets_the_senders_of_others_go_on():
    outbox, peers, waiting = blocked_on_others(5)
    for number in range(5):
        leave(outbox, b"filler" + bytes([number]), 1)
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert [outbox.lanes[peer].depth for peer in peers] == [2] * 5


def test_one_that_is_killed_passes_the_room_of_others_on():
    outbox, peers, waiting = blocked_on_others(5)
    for each in waiting[:4]:
        each.kill(block=False)
    for number in range(5):
        leave(outbox, b"filler" + bytes([number]), 1)
    waiting[4].get(timeout=5)
    assert [outbox.lanes[peer].depth for peer in peers] == [1] * 4 + [2]


def test_what_becomes_free_wakes_as_many_senders_as_have_room(monkeypatch):
    outbox = outbox_of(lanes=True, most=300 * ADDRESSED)
    peers = [bytes([letter]) for letter in range(98)]
    for peer in peers:
        put(outbox, [peer, b"x" * 10])
    for name, count in ((b"yy", 198), (b"zz", 3)):
        put(outbox, [name, b"x" * (count * ADDRESSED - 2 - 2 * FRAME_OVERHEAD)])
    waiting = [gevent.spawn(put, outbox, [peer, b"x" * 10]) for peer in peers]
    all_blocked()
    looks = []
    admit = Lane.admit

    def counted(lane):
        looks.append(lane)
        return admit(lane)

    monkeypatch.setattr(Lane, "admit", counted)
    leave(outbox, b"zz", 1)
    all_blocked()
    assert [each.dead for each in waiting] == [True] * 3 + [False] * 95
    assert len(looks) < 20
    gevent.killall(waiting)


@pytest.mark.parametrize("lanes", [False, True])
def test_the_bytes_are_those_of_the_messages_whatever_leaves(lanes, monkeypatch):
    monkeypatch.setattr(Lane, "searches", 1)
    monkeypatch.setattr(Lane, "near", 4)
    chance = random.Random(1)
    outbox = outbox_of(lanes, most=1 << 40, each=1 << 40)
    expected: dict[bytes | None, list[list[bytes]]] = {}
    for number in range(3000):
        key = bytes([chance.randrange(3)]) if lanes else None
        messages = expected.setdefault(key, [])
        message = [key or b"", b"%d" % chance.randrange(20), b"x" * chance.randrange(100)]
        what = chance.choice(["put"] * 6 + ["post", "settle", "withdraw", "withdraw", "empty"])
        if what in ("put", "post"):
            if what == "put":
                put(outbox, message)
            else:
                outbox.post(message, True, None, no_look)
                outbox.accept_arrivals()
            messages.append(message)
        elif what == "settle" and messages:
            leaving = chance.randint(1, min(3, len(messages)))
            leave(outbox, key, leaving)
            del messages[:leaving]
        elif what == "withdraw" and messages:
            chosen = chance.choice([message, chance.choice(messages)])
            assert outbox.withdraw(list(chosen)) == (chosen in messages)
            if chosen in messages:
                messages.remove(chosen)
        elif what == "empty" and messages and number % 7 == 0:
            assert outbox.empty(key) == messages
            messages.clear()
        if messages:
            assert outbox.lanes[key].messages() == messages
            assert list(outbox.lanes[key].queue) == messages[: len(outbox.lanes[key].queue)] != []
        weight = sum(weight_of(as_message(m)) for lane in expected.values() for m in lane)
        assert outbox.bytes == outbox._bounds.all.total == weight
        assert outbox.has_queued == any(expected.values())
        assert outbox.depth == sum(map(len, expected.values()))


@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_a_bound_in_bytes_is_a_positive_int(context, value):
    with pytest.raises(ValueError, match="outbox_bytes="):
        Source.open(zmq.PUSH, context=context, outbox_bytes=value)

    class Mine(Source):
        max_outbox_bytes = value

    with pytest.raises(ValueError, match="max_outbox_bytes="):
        Mine.open(zmq.PUSH, context=context)


SERVER = """
import sys
import gevent, psutil
from gzmqsource.workers import Responder

responder = Responder.open(lambda _: b"x" * 200_000, bind="tcp://127.0.0.1:*", sndhwm=10)
responder.start()
before = psutil.Process().memory_info().rss
print(responder.source.socket.LAST_ENDPOINT.decode(), flush=True)
while responder.stats().requests < 2000:
    gevent.sleep(0.01)
print(psutil.Process().memory_info().rss - before, flush=True)
sys.stdin.read()
"""


@pytest.mark.once
@pytest.mark.limit(120)
def test_a_client_that_asks_and_never_reads_takes_little_memory(context):
    with python_process(SERVER) as server:
        client = context.socket(zmq.DEALER)
        client.linger = 0
        client.rcvhwm = 1
        client.sndhwm = 0
        client.connect(line_of(server))
        for _ in range(2000):
            client.send_multipart([b"", b"more"])
        # 16 MiB in its lane; 10 messages, and what the kernel holds, beside it. It were 200 MB.
        assert int(line_of(server)) < 50 << 20
        client.close()
    wait_until(lambda: client.closed)


def test_a_sender_that_gave_up_ends_no_lane_that_is_yet_to_be_settled(monkeypatch):
    """What leaves one lane lets the putters of another follow, which ends that one."""
    is_over: list[bool] = []

    class Timeout:
        """A time that is over once the test says so."""

        def __init__(self, _seconds):
            pass

        def left(self):
            return 0 if is_over else 0.001

    monkeypatch.setattr("gzmqsource._source.putter.Deadline", Timeout)
    outbox = outbox_of(lanes=True, most=8 * ADDRESSED)
    left = {peer: put_until_full(outbox, peer, b"x" * 10) for peer in (b"a", b"b")}
    outcome = []

    def send():
        try:
            outbox.post([b"b", b"x" * 10], True, 1, no_look)
        except Full as error:
            outcome.append(error)

    _start_thread(send, ())
    while not outbox.accept_arrivals() and not outbox.lanes[b"b"].waiting:
        _sleep(0.001)
    is_over.append(True)
    while not outcome:  # it gives up while the hub is busy
        _sleep(0.001)
    for peer, count in left.items():
        for _ in range(count):
            outbox.lanes[peer].queue.popleft()
    outbox.settle(left)
    outbox.accept_arrivals()
    assert (outbox.lanes, outbox.bytes, outbox.has_queued) == ({}, 0, False)
    assert put_until_full(outbox, b"a", b"x" * 10) == left[b"a"]


#: More than any integer of C.
HUGE = 1 << 70


class Unbounded(Source):
    max_messages = max_batch = max_bytes = max_outbox_bytes = HUGE
    max_frames = max_message_bytes = HUGE


def test_a_bound_may_be_larger_than_any_integer_of_c(context):
    def all_come():
        while peer.poll(0):
            got.append(peer.recv())
        return len(got) == 5

    got = []
    with (
        closing(context.socket(zmq.DEALER)) as (peer,),
        Unbounded.open(
            zmq.ROUTER,
            bind="inproc://huge",
            context=context,
            router_mandatory=1,
            sndhwm=1,
            outbox=HUGE,
            outbox_bytes=HUGE,
        ) as source,
    ):
        peer.rcvhwm, peer.routing_id = 1, b"peer"
        peer.connect("inproc://huge")
        peer.send(b"x")
        assert source.recv_many(HUGE, timeout=10) == [[b"peer", b"x"]]
        for _ in range(5):
            source.send([b"peer", b"y"])
        assert source.stats().outbox_depth
        wait_until(all_come)

"""Whole messages only: whatever dies in the middle of one, and whoever sends beside it."""

import os
import sys
import time
from collections import deque
from functools import partial
from typing import Any

import gevent
import pytest
import zmq
from helpers import close_for_good, closing, endpoint_of, pair_of

from gzmqsource import Source, transfer
from gzmqsource.testing import wait_until
from gzmqsource.transfer import transfer_for
from gzmqsource.transfer.pure import PureTransfer

counted = pytest.mark.skipif(
    not hasattr(sys, "getrefcount"), reason="PyPy does not count references"
)


def framed(number, frames=3):
    return [b"%d:%d" % (number, index) for index in range(frames)]


def assert_whole(message, frames=3):
    number = int(message[0].split(b":")[0])
    assert message == framed(number, frames), "torn"
    return number


def test_concurrent_senders_never_interleave_their_frames(context, endpoint):
    with closing(*pair_of(context, endpoint, sndhwm=2, outbox=2)) as (receiver, sender):

        def send(first):
            for number in range(first, first + 50):
                sender.send(framed(number, 5))

        senders = [gevent.spawn(send, first) for first in range(0, 400, 50)]
        got = [assert_whole(receiver.recv(timeout=5), 5) for _ in range(400)]
        gevent.joinall(senders, raise_error=True)
        assert sorted(got) == list(range(400))
        for first in range(0, 400, 50):
            mine = [number for number in got if first <= number < first + 50]
            assert mine == list(range(first, first + 50))


def test_what_was_sent_before_an_error_leaves_the_queue_and_the_rest_stays(context):
    with context.socket(zmq.REQ) as request, context.socket(zmq.REP) as reply:
        request.bind("inproc://error")
        reply.connect("inproc://error")
        transfer = transfer_for(request)
        queue: deque[bytes | list[bytes | zmq.Frame]] = deque([b"first", b"second", b"third"])
        moved: list[tuple[int, int, Any]] = []
        transfer.send_lanes([queue], moved, 10, 10, 1 << 20)
        ((index, count, error),) = moved
        assert (index, count, error.errno) == (0, 1, zmq.EFSM)
        assert list(queue) == [b"second", b"third"]
        assert transfer.sent == 1


@counted
@pytest.mark.parametrize("frames", [1, 3])
def test_a_large_frame_arrives_and_is_then_let_go_of(context, endpoint, frames):
    """libzmq reads it from where it is, so it must live exactly as long as that takes."""
    with closing(*pair_of(context, endpoint)) as (receiver, sender):
        large = [bytes([index]) * (1 << 20) for index in range(frames)]
        before = [sys.getrefcount(frame) for frame in large]
        for _ in range(5):
            sender.send(large)
            assert receiver.recv(timeout=5) == large
        wait_until(lambda: [sys.getrefcount(frame) for frame in large] == before)


@counted
def test_a_large_frame_that_libzmq_does_not_take_is_kept_once(context):
    with context.socket(zmq.PUSH) as push:
        large = b"x" * (1 << 20)
        before = sys.getrefcount(large)
        transfer = transfer_for(push)
        for _ in range(5):
            assert not transfer.send_one(large)
        wait_until(lambda: sys.getrefcount(large) == before)


@counted
def test_large_frames_that_never_left_are_let_go_of_with_their_socket(context):
    large = b"x" * (1 << 20)
    before = sys.getrefcount(large)
    with closing(*pair_of(context, "inproc://large", sndhwm=5, linger=0)) as (_, sender):
        for _ in range(8):
            sender.send(large)
    wait_until(lambda: sys.getrefcount(large) == before)


class Dying:
    """Closes a peer before a chosen frame of the next message, which libzmq then sees."""

    def __init__(self, context, send):
        self.context = context
        self.send = send
        self.before = None
        self.peer = None

    def __call__(self, frame, *arguments):
        if self.before is not None:
            if self.before == 0:
                self.before = None
                assert self.peer is not None
                close_for_good(self.context, self.peer)
            else:
                self.before -= 1
        return self.send(frame, *arguments)


@pytest.fixture
def dying(context, monkeypatch):
    """The pure transfer's sends, each through a `Dying`."""
    made = []
    original = PureTransfer.__init__

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self._send = Dying(context, self._send)
        made.append(self._send)

    monkeypatch.setattr(PureTransfer, "__init__", init)
    monkeypatch.setattr("gzmqsource.transfer._native", None)
    return made


# Over inproc, for a pipe of tcp outlives its connection: libzmq connects again.
@pytest.mark.parametrize("frames", [2, 3, 5])
@pytest.mark.parametrize("transport", ["inproc"])
@pytest.mark.parametrize(
    ("kind", "peer_kind"),
    [(zmq.PUSH, zmq.PULL), (zmq.DEALER, zmq.DEALER)],
    ids=["PUSH", "DEALER"],
)
def test_a_pipe_that_dies_within_a_message_never_leaves_a_torn_one(
    context, dying, endpoint, kind, peer_kind, frames
):
    """Each frame of the message in turn, with the survivor before or behind the dying peer."""
    for before in range(1, frames):
        for victim in 0, 1:
            peers = [context.socket(peer_kind) for _ in range(2)]
            raw = context.socket(kind)
            raw.linger = 0
            dying.clear()
            for index, peer in enumerate(peers):
                suffix = f"{before}{victim}{index}{kind}"
                peer.bind(f"{endpoint}{suffix}")
                raw.connect(endpoint_of(peer))
            source = Source(raw)
            try:
                # Both pipes stand, and it is known whose turn it is.
                count = 0
                while not all(peer.poll(1) for peer in peers):
                    source.send(framed(count, frames))
                    count += 1
                dead, survivor = peers[victim], peers[1 - victim]
                for _ in range(2):  # one of the two goes to the dying peer
                    dying[0].peer, dying[0].before = dead, before
                    source.send(framed(count, frames))
                    count += 1
                for _ in range(3):
                    source.send(framed(count, frames))
                    count += 1
                got: list[int] = []
                wait_until(partial(survivor.poll, 0))
                while not got or got[-1] != count - 1:
                    assert survivor.poll(5000)
                    got.append(assert_whole(survivor.recv_multipart(), frames))
                assert got == sorted(set(got))
                # All that was sent after the peer had died is there.
                assert got[-4:] == list(range(count - 4, count))
                assert source.stats().sent == count
                assert source.stats().outbox_depth == 0
            finally:
                source.close()
                for peer in peers:
                    peer.close(0)


@pytest.mark.parametrize("frames", [2, 4])
@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.DEALER], ids=["PUSH", "DEALER"])
def test_a_message_whose_only_pipe_dies_within_it_goes_whole_to_the_next_peer(
    context, dying, kind, frames
):
    for before in range(1, frames):
        first, second = (
            context.socket(zmq.PULL if kind == zmq.PUSH else zmq.DEALER) for _ in range(2)
        )
        dying.clear()
        first.bind(f"inproc://first{before}")
        second.bind(f"inproc://second{before}")
        source = Source.open(kind, connect=f"inproc://first{before}", context=context, linger=0)
        try:
            source.send(framed(0, frames))
            dying[0].peer, dying[0].before = first, before
            source.send(framed(1, frames))
            source.send(framed(2, frames))
            source.socket.connect(f"inproc://second{before}")
            wait_until(partial(source.flush, 0))
            got = [0]
            while got[-1] != 2:
                assert second.poll(5000)
                got.append(assert_whole(second.recv_multipart(), frames))
            # Either libzmq has said that the pipe was dead, or it has dropped the message with
            # the peer, as it does with all that is on its way to one that goes.
            assert got in ([0, 1, 2], [0, 2])
        finally:
            source.close()
            first.close(0)
            second.close(0)


@pytest.mark.parametrize("copy", [True, False])
def test_a_receive_gives_whole_messages_up_to_its_limits(context, copy):
    with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        pull.bind("inproc://limits")
        push.connect("inproc://limits")
        transfer = transfer_for(pull)
        for number in range(10):
            push.send_multipart(framed(number))
        got: list[Any] = []
        assert transfer.receive(got, 4, 1 << 20, copy) is False
        assert len(got) == 4
        assert (
            transfer.receive(got, 10, 5, copy) is False
        )  # more than 5 bytes: ends with the message
        assert len(got) == 5
        assert transfer.receive(got, 10, 1 << 20, copy) is True
        assert copy or [[frame.more for frame in message] for message in got] == [
            [True] * (len(message) - 1) + [False] for message in got
        ]
        plain = [[f if copy else f.bytes for f in message] for message in got]
        assert [assert_whole(message) for message in plain] == list(range(10))
        assert transfer.received == 10


@pytest.mark.parametrize("frame", [1, 2, 3])
def test_what_a_signal_handler_raises_after_a_frame_tears_no_later_message(context, frame):
    """pyzmq runs signal handlers once it has received a frame."""

    class Struck(Exception):
        pass

    with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        pull.bind("inproc://struck")
        push.connect("inproc://struck")
        transfer = PureTransfer(pull)
        receive, frames = transfer._recv, iter(range(1, 1000))

        def strike(flags, copy):
            received = receive(flags, copy)
            if next(frames) == frame:
                raise Struck
            return received

        transfer._recv = strike
        for number in range(3):
            push.send_multipart(framed(number))
        got: list[list[bytes]] = []
        with pytest.raises(Struck):
            transfer.receive(got, 10, 1 << 20)
        assert transfer.receive(got, 10, 1 << 20) is True
        assert [assert_whole(message) for message in got] == [1, 2]


@pytest.mark.skipif(transfer.backend != "pure", reason="no Python code runs in between")
def test_a_list_that_changes_between_two_of_its_frames_is_sent_as_it_was(context):
    def send(frame, flags):
        backend_send(frame, flags)
        frames.clear()

    frames = framed(1)
    with (
        closing(context.socket(zmq.PULL)) as (receiver,),
        Source.open(zmq.PUSH, bind="inproc://changes", context=context) as source,
    ):
        receiver.connect("inproc://changes")
        sender: Any = source._core.socket.transfer
        backend_send, sender._send = sender._send, send
        assert source._shortcut_send_now(frames)
        assert receiver.poll(1000)
        assert_whole(receiver.recv_multipart())


def test_this_run_uses_the_transfer_that_it_was_told_to_use():
    wanted = os.environ.get("GZMQSOURCE_TRANSFER")
    assert transfer.backend == wanted or wanted in (None, "")


def lanes_to(context, names):
    """A ROUTER with a peer of each name, all of whose pipes take two messages."""
    router = context.socket(zmq.ROUTER)
    router.router_mandatory, router.sndhwm, router.linger = 1, 1, 0
    router.bind("inproc://lanes")
    peers = []
    for name in names:
        peer = context.socket(zmq.DEALER)
        peer.routing_id, peer.rcvhwm, peer.linger = name, 1, 0
        peer.connect("inproc://lanes")
        peer.send(b"here")
        router.recv_multipart()
        peers.append(peer)
    return router, peers


def lane_of(name, count, frame=b"x"):
    return deque([name, b"%d" % number, frame] for number in range(count))


def test_many_lanes_are_tried_in_one_call_that_returns_what_moved(context):
    names = [b"one", b"two"]
    router, peers = lanes_to(context, names)
    with closing(router, *peers):
        transfer = transfer_for(router)
        lanes: list[Any] = [
            lane_of(b"one", 3),
            lane_of(b"nobody", 2),
            lane_of(b"two", 1),
            deque(),
        ]
        moved: list[tuple[int, int, Any]] = []
        assert transfer.send_lanes(lanes, moved, 10, 100, 1 << 20) == 4
        assert [(index, count) for index, count, _ in moved] == [(0, 2), (1, 0), (2, 1)]
        assert moved[0][2] is True
        assert moved[1][2].errno == zmq.EHOSTUNREACH
        assert moved[2][2] is False
        assert [len(lane) for lane in lanes] == [1, 2, 0, 0]
        moved.clear()
        assert transfer.send_lanes(lanes[:1], moved, 10, 100, 1 << 20) == 1
        assert moved == []
        assert transfer.sent == 3


def test_a_message_behind_one_that_is_removed_while_it_is_sent_is_not_lost(context):
    class Removing(PureTransfer):
        def send_one(self, message):
            lane.popleft()
            return super().send_one(message)

    sender, receiver = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    with closing(sender, receiver):
        sender.bind("inproc://removing")
        receiver.connect("inproc://removing")
        lane: deque[Any] = deque([b"a", b"b"])
        moved: list[Any] = []
        assert Removing(sender).send_lanes([lane], moved, 10, 10, 1 << 20) == 1
        assert moved == [(0, 2, False)]
        assert [receiver.recv(), receiver.recv()] == [b"a", b"b"]


def test_a_call_for_many_lanes_ends_at_its_limits(context):
    names = [b"one", b"two", b"three"]
    router, peers = lanes_to(context, names)
    with closing(router, *peers):
        transfer = transfer_for(router)
        lanes: list[Any] = [lane_of(name, 2, bytes(100)) for name in names]
        moved: list[tuple[int, int, Any]] = []
        assert transfer.send_lanes(lanes, moved, 1, 2, 1 << 20) == 2
        assert moved == [(0, 1, False), (1, 1, False)]
        moved.clear()
        assert transfer.send_lanes(lanes, moved, 10, 100, 1) == 1
        assert moved == [(0, 1, False)]


@pytest.mark.parametrize("size", [10, 40, 5000, 70_000])
def test_what_comes_after_a_routing_id_arrives_whole(context, size):
    router, (peer,) = lanes_to(context, [b"peer"])
    with closing(router, peer):
        transfer = transfer_for(router)
        frames: list[Any] = [os.urandom(size), zmq.Frame(os.urandom(size)), b"", os.urandom(size)]
        wanted = [getattr(frame, "bytes", frame) for frame in frames]
        taken = 0
        while transfer.send_one([b"peer", *frames]):
            taken += 1
        assert taken == 2
        for _ in range(taken):
            assert peer.recv_multipart() == wanted
        # What was tried while the peer was full has left nothing behind.
        router.get(zmq.EVENTS)
        assert transfer.send_one([b"peer", *frames])
        assert peer.recv_multipart() == wanted


def test_the_clock_of_commands_is_never_slower_than_libzmqs(context):
    """A send looks for commands once the clock says that it may not be counted on not to."""
    with context.socket(zmq.DEALER) as socket:
        clock = transfer_for(socket).command_clock
        began, ended = time.monotonic(), clock() + 1000
        wait_until(lambda: clock() >= ended, 10)
        # 3,000,000 ticks of a counter of 1 to 6 GHz, or the least that it can be.
        assert 0.3 < time.monotonic() - began < 3.5

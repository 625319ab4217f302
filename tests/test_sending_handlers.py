"""A signal handler that sends, or withdraws, at each moment of a send or of a withdrawal."""

import functools

import pytest
from striking import PACKAGES, at_moment

from gzmqsource._source.lane import Lane
from gzmqsource._source.outbox import Outbox
from gzmqsource.transfer.message import as_frames

pytestmark = pytest.mark.once


class Queued:
    """An outbox in which *messages* are queued, and what it has to hold."""

    def __init__(self, per_peer, messages):
        self.outbox = Outbox(10, "block", per_peer)
        self.peer = [b"peer"] if per_peer else []
        self.expected: set[bytes] = set()
        for content in messages:
            self.send(content)

    def send(self, content):
        self.outbox.put([*self.peer, content], False, None, lambda: int, int)
        self.expected.add(content)

    def withdraw(self, content):
        if self.outbox.withdraw([*self.peer, content]):
            self.expected.discard(content)

    def check(self):
        """Check that its flusher would find all, that nothing else is counted, and close it."""
        outbox = self.outbox
        assert set(outbox.lanes) == outbox._queued == set(outbox.filled)
        assert outbox.depth == len(self.expected)
        assert (outbox.bytes > 0) == bool(self.expected)
        assert {as_frames(message)[-1] for message in outbox.close()} == self.expected


@pytest.mark.parametrize("per_peer", [False, True], ids=["one", "each"])
@pytest.mark.parametrize("has_lane", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("handler", ["send", "withdraw"])
@pytest.mark.parametrize("call", ["send", "withdraw"])
def test_nothing_is_lost_by_a_handler_that_uses_the_source(
    monkeypatch, per_peer, has_lane, handler, call
):
    monkeypatch.setattr(Lane, "resolution", 0.0)  # as if each message came in its own millisecond
    number = 0
    has_come = True
    while has_come:
        number += 1
        queued = Queued(per_peer, [b"queued"] * has_lane)
        calls = {
            "send": functools.partial(queued.send, b"sent"),
            "withdraw": functools.partial(queued.withdraw, b"queued"),
        }
        handlers = calls | {"send": functools.partial(queued.send, b"sent by the handler")}
        has_come = at_moment(number, calls[call], handlers[handler], PACKAGES[:1])
        queued.check()
    assert number > 2


@pytest.mark.parametrize("handler", ["send", "withdraw"])
@pytest.mark.parametrize("content", [b"0", b"1", b"2", b"5"])
@pytest.mark.parametrize("count", [4, 6])
def test_nothing_is_lost_by_a_handler_that_uses_a_long_lane(monkeypatch, count, content, handler):
    """Some of its messages are set aside, and come back one by one."""
    monkeypatch.setattr(Lane, "near", 2)
    number = 0
    has_come = True
    while has_come:
        number += 1
        queued = Queued(False, [b"%d" % each for each in range(count)])
        queued.outbox.lanes[None]._searched = 1000
        queued.withdraw(b"3")
        assert queued.outbox.lanes[None].aside
        handlers = {
            "send": functools.partial(queued.send, b"sent by the handler"),
            "withdraw": functools.partial(queued.withdraw, b"2"),
        }
        call = functools.partial(queued.withdraw, content)
        has_come = at_moment(number, call, handlers[handler], PACKAGES[:1])
        queued.check()
    assert number > 10

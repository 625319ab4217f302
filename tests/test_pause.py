"""`Source.pause` and `Source.resume`."""

import pytest
import zmq
from handlers import NUMBERS, Gate, every_spawn, fed
from helpers import closing, is_readable

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until


def wait_for_message(source):
    """Wait until a message is there, with the edge spent."""
    wait_until(lambda: is_readable(source.socket))
    all_blocked()


@every_spawn
def test_nothing_is_read_while_paused_and_resuming_looks_first(context, endpoint, spawn):
    got: list[list[bytes]] = []
    with fed(context, got.append, endpoint, spawn=spawn()) as (source, sender):
        sender.send(b"before")
        wait_until(lambda: got)
        source.pause()
        sender.send(b"meanwhile")
        wait_for_message(source)
        assert (got, source.stats().received) == ([[b"before"]], 1)
        source.resume()
        wait_until(lambda: len(got) == 2)
        assert got[1] == [b"meanwhile"]


@pytest.mark.parametrize("spawn", [None, 1], ids=["None", "1"])
def test_pausing_while_a_handler_runs_stops_what_comes_after_it(context, endpoint, spawn):
    gate = Gate()
    with fed(context, gate, endpoint, spawn=spawn) as (source, sender):
        sender.send(b"one")
        wait_until(lambda: gate.begun)
        sender.send(b"two")
        wait_for_message(source)
        source.pause()
        gate.opened.set()
        wait_until(lambda: gate.done)
        all_blocked()
        assert (gate.begun, source.stats().received) == ([[b"one"]], 1)
        source.resume()
        wait_until(lambda: len(gate.done) == 2)


def test_what_was_read_ahead_is_handed_out_while_paused(context):
    got: list[list[bytes]] = []

    def handle(message):
        if message == [b"150"]:
            source.pause()
        got.append(message)

    with fed(context, handle) as (source, sender):
        source.pause()
        for number in NUMBERS:
            sender.send(number)
        wait_for_message(source)
        source.resume()
        wait_until(lambda: [b"150"] in got)
        all_blocked()
        seen = len(got)
        assert (seen, source.stats().in_hand) == (source.stats().received, 0)
        assert 151 <= seen < 151 + source.max_batch
        source.resume()
        wait_until(lambda: len(got) == len(NUMBERS))
    assert got == [[number] for number in NUMBERS]


def test_pausing_twice_is_pausing_once(context):
    got: list[list[bytes]] = []
    with fed(context, got.append) as (source, sender):
        for _ in range(2):
            source.pause()
        sender.send(b"one")
        wait_for_message(source)
        assert got == []
        for _ in range(2):
            source.resume()
        wait_until(lambda: got)


def test_a_paused_source_sends(context, endpoint):
    with fed(context, print, endpoint, zmq.DEALER, zmq.DEALER) as (source, peer):
        source.pause()
        source.send(b"one")
        assert peer.recv(timeout=5) == [b"one"]


def test_starting_while_paused_reads_nothing(context):
    got: list[list[bytes]] = []
    source = Source.open(zmq.PULL, got.append, bind="inproc://paused", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://paused", context=context)
    with closing(source, sender):
        source.pause()
        source.start()
        sender.send(b"one")
        wait_for_message(source)
        assert got == []
        source.resume()
        wait_until(lambda: got)

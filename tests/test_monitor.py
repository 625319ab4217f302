"""`Monitor`: the events of a socket, decoded."""

import struct

import gevent
import pytest
import zmq
from gevent.queue import Empty
from helpers import endpoint_of, in_thread, pair_of

from gzmqsource import InvalidThreadUseError, Source, SourceClosed
from gzmqsource._base.hubs import call_in_hub
from gzmqsource._socket import reports
from gzmqsource.monitor import Monitor, decode
from gzmqsource.testing import all_blocked, wait_until


def test_it_tells_of_a_connection_and_of_its_end(context):
    pull = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    endpoint = endpoint_of(pull)
    push = Source.open(zmq.PUSH, context=context)
    with Monitor(push) as monitor, Monitor(pull) as other:
        push.socket.connect(endpoint)
        event = monitor.wait_for("connected", timeout=10)
        assert (event.endpoint, event.errno, event.protocol_error) == (endpoint, None, None)
        assert monitor.recv(timeout=10).name == "handshake_succeeded"
        assert other.wait_for("accepted", timeout=10).endpoint == endpoint
        pull.close()
        assert str(monitor.wait_for("disconnected", timeout=10)) == f"disconnected {endpoint}"
    push.close()


def test_it_ends_with_its_socket(context):
    pull, push = pair_of(context, "tcp://127.0.0.1:*")
    with pull, push:
        push.send(b"connected")
        pull.recv(timeout=10)
        monitor = Monitor(push)
        iterating = gevent.spawn(list, monitor)
        with Monitor(pull, zmq.EVENT_DISCONNECTED) as monitor_of_pull:
            push.close()
            iterating.get(timeout=10)
            assert monitor_of_pull.recv(timeout=10).name == "disconnected"
        with pytest.raises(SourceClosed):
            monitor.recv()


def test_it_watches_a_plain_socket_which_goes_on_without_it(context):
    with context.socket(zmq.PULL) as pull:
        with Monitor(pull) as monitor:
            pull.bind("tcp://127.0.0.1:*")
            assert monitor.recv(timeout=10).name == "listening"
            with pytest.raises(Empty):
                monitor.recv(timeout=0.01)
        with pytest.raises(SourceClosed):
            monitor.recv()
        pull.bind("inproc://still-works")


def test_it_is_told_of_events_that_came_while_memory_was_short(context, monkeypatch):
    refusals = iter([True])

    def call_if_there_is_memory(*call):
        if next(refusals, False):
            raise MemoryError
        return call_in_hub(*call)

    monkeypatch.setattr(reports, "call_in_hub", call_if_there_is_memory)
    with context.socket(zmq.PULL) as pull, Monitor(pull) as monitor:
        waiting = gevent.spawn(monitor.recv)
        all_blocked()
        pull.bind("tcp://127.0.0.1:*")
        assert waiting.get(timeout=10).name == "listening"
    assert not next(refusals, False)


def test_an_event_that_cannot_be_decoded_for_want_of_memory_is_kept(context, monkeypatch):
    with (
        Source.open(zmq.PULL, context=context) as pull,
        Monitor(pull, zmq.EVENT_LISTENING) as monitor,
    ):
        pull.socket.bind("tcp://127.0.0.1:*")
        with monkeypatch.context() as patch:

            def decode_without_memory(message):
                raise MemoryError

            patch.setattr("gzmqsource.monitor.decode", decode_without_memory)
            with pytest.raises(MemoryError):
                monitor.recv(timeout=10)
        assert monitor.recv(timeout=0).name == "listening"


def test_an_event_carries_its_errno(context):
    with context.socket(zmq.PULL) as first, context.socket(zmq.PULL) as second:
        first.bind("tcp://127.0.0.1:*")
        with Monitor(second) as monitor:
            with pytest.raises(zmq.ZMQError):
                second.bind(endpoint_of(first))
            event = monitor.wait_for("bind_failed", timeout=10)
            assert (event.name, event.errno) == ("bind_failed", zmq.EADDRINUSE)
            assert "in use" in str(event)


def test_a_handshake_that_fails_tells_why(context):
    pull = Source.open(
        zmq.PULL, bind="tcp://127.0.0.1:*", context=context, plain_server=1, zap_domain=b"x"
    )
    with Monitor(pull) as monitor:
        push = Source.open(zmq.PUSH, connect=endpoint_of(pull), context=context, linger=0)
        event = monitor.wait_for("handshake_failed_protocol", timeout=10)
        assert event.protocol_error == "zmtp_mechanism_mismatch"
        push.close()
    pull.close()


@pytest.mark.parametrize(
    "message",
    [[], [b""], [b"x", b"y"], [b"\1\0", b"tcp://x"], [b"\1\0\0\0\0\0"], [b"\0" * 6, b"a", b"b"]],
)
def test_what_is_no_event_is_refused(message):
    with pytest.raises(ValueError, match="not a message of a monitor"):
        decode(message)


def test_unknown_numbers_are_shown_as_they_are():
    event = decode([struct.pack("=HI", 1 << 15, 7), b"tcp://\xff"])
    assert event.name == "0x8000"
    assert event.endpoint == "tcp://\N{REPLACEMENT CHARACTER}"
    event = decode([struct.pack("=HI", int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL), 99), b""])
    assert event.protocol_error == "0x63"


def test_a_name_that_is_none_is_refused(context):
    pull = Source.open(zmq.PULL, bind="inproc://x", context=context)
    with Monitor(pull) as monitor, pytest.raises(ValueError, match="'conected' is not an event"):
        monitor.wait_for("conected")
    pull.close()


def make_events(socket, count):
    """Have libzmq report that a socket listens, and that it no longer does."""
    for _ in range(count):
        socket.bind("tcp://127.0.0.1:*")
        socket.unbind(endpoint_of(socket))


def test_a_monitor_that_nobody_reads_holds_nothing_up(context):
    with (
        Source.open(zmq.PULL, bind="inproc://x", context=context) as pull,
        Monitor(pull) as monitor,
    ):
        make_events(pull.socket, 1500)
        assert monitor.recv(timeout=10).name == "listening"
        assert not monitor.dropped


def test_the_oldest_events_are_dropped_and_counted_and_logged(context, monkeypatch, caplog):
    """Also while the hub stands still."""
    monkeypatch.setattr(Monitor, "max_events", 10)
    with Source.open(zmq.PULL, bind="inproc://x", context=context) as pull:
        monitor = Monitor(pull, zmq.EVENT_LISTENING | zmq.EVENT_BIND_FAILED)
        make_events(pull.socket, 100)
        with pytest.raises(zmq.ZMQError):
            pull.socket.bind("tcp://192.0.2.1:5555")  # no address of this machine
        received = 1
        while monitor.recv(timeout=10).name != "bind_failed":
            received += 1
        with pytest.raises(Empty):
            monitor.recv(timeout=0)
        assert monitor.dropped == 101 - received > 0
        wait_until(lambda: "the oldest events of a monitor were dropped" in caplog.text)
        monitor.close()


def test_a_greenlet_that_reads_without_a_wait_yields_to_io(context):
    with Source.open(zmq.PULL, bind="inproc://x", context=context) as pull:
        monitor = Monitor(pull, zmq.EVENT_LISTENING)
        make_events(pull.socket, 300)
        report = monitor._report
        wait_until(lambda: len(report.queue) == 300)
        seen = []
        gevent.spawn(lambda: seen.append(len(report.queue)))
        for _ in range(300):
            monitor.recv(timeout=0)
        assert seen == [300 - Monitor.max_batch]
        monitor.close()


def test_a_greenlet_that_waits_keeps_the_loop_running_unless_it_should_not():
    for ref, ends in ((True, False), (False, True)):
        assert in_thread(loop_ends, ref) is ends


def loop_ends(ref):
    """Return whether a hub whose only greenlet waits for an event has nothing to do."""
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        monitor = Monitor(pull, ref=ref)
        waiting = gevent.spawn(monitor.recv)
        ended = gevent.get_hub().join(timeout=0.05 if ref else 10)
        waiting.kill()
        monitor.close()
    gevent.get_hub().destroy()
    return ended


def test_several_greenlets_share_the_events_and_a_killed_one_takes_none(context):
    with Source.open(zmq.PULL, bind="inproc://x", context=context) as pull:
        monitor = Monitor(pull, zmq.EVENT_LISTENING)
        waiting = [gevent.spawn(monitor.recv, 10) for _ in range(3)]
        all_blocked()
        waiting[0].kill()
        make_events(pull.socket, 2)
        events = [each.get(timeout=10) for each in waiting[1:]]
        assert [event.name for event in events] == ["listening"] * 2
        assert events[0].endpoint != events[1].endpoint
        monitor.close()


def test_only_its_own_hub_may_use_it(context):
    with Source.open(zmq.PULL, bind="inproc://x", context=context) as pull:
        monitor = Monitor(pull)
        for call in (monitor.recv, monitor.close, lambda: list(monitor)):
            assert isinstance(in_thread(call), InvalidThreadUseError)
        monitor.close()


def test_a_monitor_that_is_dropped_holds_nothing_up(context):
    with Source.open(zmq.PULL, bind="inproc://x", context=context) as pull:
        Monitor(pull)
        pull.socket.bind("tcp://127.0.0.1:*")


def test_a_monitor_that_a_thread_drops_is_read_as_long_as_its_socket_lives(context):
    with Source.open(zmq.PULL, bind="inproc://x", context=context) as pull:
        held = [Monitor(pull)]
        in_thread(held.clear)
        for _ in range(20):  # libzmq would wait for a reader that is gone
            make_events(pull.socket, 1)
            gevent.sleep(0.001)

"""Senders: the way in from other greenlets, hubs and native threads."""

from functools import partial

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.monkey import get_original
from gevent.queue import Full
from helpers import closing, pair_of

from gzmqsource import InvalidThreadUseError, Source, SourceClosed
from gzmqsource._socket.writers import ManyWriters
from gzmqsource.testing import all_blocked, fill, wait_until

_start_thread = get_original("_thread", "start_new_thread")


def in_thread(function):
    """Run a function in a native thread; a list that gets its result or its exception."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    _start_thread(run, ())
    return outcome


def in_other_hub(function):
    """Run a function in a greenlet of another thread's hub."""

    def run():
        try:
            return gevent.spawn(function).get()
        finally:
            get_hub().destroy(destroy_loop=True)

    return in_thread(run)


def in_threadpool(function):
    """Run a function in a thread of the hub's pool."""
    outcome = []
    get_hub().threadpool.spawn(function).rawlink(
        lambda result: outcome.append(result.value if result.successful() else result.exception)
    )
    return outcome


def in_greenlet(function):
    """Run a function in a greenlet of this hub."""
    outcome = []
    gevent.spawn(function).rawlink(
        lambda result: outcome.append(result.value if result.successful() else result.exception)
    )
    return outcome


places = pytest.mark.parametrize("run", [in_thread, in_other_hub, in_threadpool, in_greenlet])


@places
def test_messages_arrive_in_the_order_in_which_they_were_sent(context, endpoint, run):
    receiver, source = pair_of(context, endpoint, outbox=10, sndhwm=5)
    with closing(receiver, source):
        sender = source.sender()

        def work():
            for number in range(1000):
                sender.send([b"%d" % number, b"tail"])
            return "done"

        outcome = run(work)
        numbers = [int(receiver.recv(timeout=10)[0]) for _ in range(1000)]
        assert numbers == list(range(1000))
        wait_until(lambda: outcome == ["done"])


def test_many_threads_lose_nothing_and_keep_their_order(context):
    receiver, source = pair_of(context, "tcp://127.0.0.1:*", outbox=10, sndhwm=5)
    with closing(receiver, source):
        outcomes = []
        for thread in range(4):
            sender = source.sender()

            def work(thread=thread, sender=sender):
                for number in range(500):
                    sender.send([b"%d" % thread, b"%d" % number])

            outcomes.append(in_thread(work))
        got: dict[int, list[int]] = {thread: [] for thread in range(4)}
        for _ in range(2000):
            thread, number = receiver.recv(timeout=10)
            got[int(thread)].append(int(number))
        assert all(numbers == list(range(500)) for numbers in got.values())
        wait_until(lambda: outcomes == [[None]] * 4)


@pytest.fixture
def full(context):
    """A source whose libzmq takes nothing, and a sender of it."""
    source = Source.open(zmq.PUSH, context=context, linger=0, outbox=3)
    with closing(source):
        yield source, source.sender()


@places
def test_a_full_outbox_raises_full_at_once_or_in_time(full, run):
    source, sender = full
    for _ in range(3):
        source.send(b"x")
    for options in ({"block": False}, {"timeout": 0}, {"timeout": 0.02}):
        outcome = run(lambda options=options: sender.send(b"late", **options))
        wait_until(partial(bool, outcome))
        assert isinstance(outcome[0], Full)
    all_blocked()
    assert source.stats().outbox_depth == 3
    assert source.stop(0.01) == [[b"x"]] * 3


@places
def test_a_waiting_sender_is_told_that_the_source_closes(full, run):
    source, sender = full
    for _ in range(3):
        source.send(b"x")
    begun = []

    def work():
        begun.append(True)
        sender.send(b"waits")

    outcome = run(work)
    wait_until(lambda: begun)
    all_blocked(20)
    assert outcome == []
    source.close()
    wait_until(lambda: outcome)
    assert isinstance(outcome[0], SourceClosed)
    late = run(lambda: sender.send(b"x"))
    wait_until(lambda: late)
    assert isinstance(late[0], SourceClosed)


def test_a_waiting_native_thread_holds_up_nobody(full):
    source, sender = full
    for _ in range(3):
        source.send(b"x")
    outcome = in_thread(lambda: sender.send(b"waits"))
    for _ in range(50):
        gevent.sleep(0.001)
    assert outcome == []
    assert source.withdraw(b"x")
    wait_until(lambda: outcome == [None])


@pytest.mark.parametrize("overflow", ["raise", "drop_newest", "drop_oldest"])
def test_the_overflow_policy_holds_for_threads_too(context, overflow):
    source = Source.open(zmq.PUSH, context=context, linger=0, outbox=3, overflow=overflow)
    with closing(source):
        sender = source.sender()
        refused = 0
        for number in range(10):
            outcome = in_thread(lambda number=number: sender.send(b"%d" % number))
            wait_until(partial(bool, outcome))
            all_blocked()
            refused += isinstance(outcome[0], Full)
        dropped = source.stats().dropped
        left = [message[0] for message in source.stop(0.01)]
    if overflow == "drop_oldest":
        assert (left, dropped) == ([b"7", b"8", b"9"], {"oldest": 7})
    else:
        assert left == [b"0", b"1", b"2"]
        assert (refused, dropped) == ((7, {}) if overflow == "raise" else (0, {"newest": 7}))


def test_handles_are_closed_one_by_one(context):
    receiver, source = pair_of(context, "inproc://a")
    with closing(receiver, source):
        with source.sender() as first:
            second = first.clone()
            assert "open" in repr(first)
        assert first.closed
        assert "closed" in repr(first)
        for call in (lambda: first.send(b"x"), lambda: first.send_nowait(b"x"), first.clone):
            with pytest.raises(SourceClosed, match="clone"):
                call()
        second.send_nowait(b"message")
        assert receiver.recv(timeout=5) == [b"message"]


@pytest.mark.parametrize("bad", [None, "text", 3, [], [b"a", "b"]])
def test_a_bad_message_is_an_error_in_the_thread_that_sends_it(context, bad):
    with closing(Source.open(zmq.PUSH, context=context)) as (source,):
        sender = source.sender()
        outcome = in_thread(lambda: sender.send(bad))
        wait_until(lambda: outcome)
        assert isinstance(outcome[0], (TypeError, ValueError))


def test_the_source_itself_turns_another_thread_away(context):
    with closing(Source.open(zmq.DEALER, context=context)) as (source,):
        for call in (lambda: source.send(b"x"), source.recv, lambda: source.socket, source.stop):
            outcome = in_thread(call)
            wait_until(partial(bool, outcome))
            assert isinstance(outcome[0], InvalidThreadUseError)
            assert "sender()" in str(outcome[0])


def test_a_thread_reaches_its_peer_while_another_peer_is_full(context):
    options = {"context": context, "sndhwm": 1, "rcvhwm": 1}
    router = Source.open(zmq.ROUTER, bind="inproc://router", router_mandatory=1, **options)
    full, free = (
        Source.open(zmq.DEALER, connect="inproc://router", routing_id=name, **options)
        for name in (b"full", b"free")
    )
    with closing(router, full, free):
        fill(router, [b"full", b"x"])
        router.send([b"full", b"queued"])
        router.send([b"free", b"hello"])
        assert free.recv(timeout=5) == [b"hello"]
        gevent.sleep(10 * ManyWriters.confirm_after)  # what is queued is not tried any more
        sender = router.sender()
        in_thread(lambda: sender.send([b"free", b"for you"], timeout=5))
        assert free.recv(timeout=5) == [b"for you"]


@pytest.mark.parametrize("where", [in_thread, in_other_hub, in_greenlet])
def test_senders_that_wait_learn_that_their_source_was_collected_in_a_thread(context, where):
    sources = [Source.open(zmq.PUSH, context=context, outbox=1, linger=0)]
    sender = sources[0].sender()
    sender.send(b"queued")
    outbox = sources[0]._core.outbox
    outcomes = [where(lambda: sender.send(b"x")) for _ in range(3)]
    wait_until(lambda: outbox.lane is not None and len(outbox.lane.waiting) == 3)

    def collect():
        collected = in_thread(sources.clear)
        wait_until(lambda: collected)

    with pytest.warns(ResourceWarning, match="unclosed"):
        collect()
    wait_until(lambda: all(outcomes))
    assert [type(each[0]) for each in outcomes] == [SourceClosed] * 3

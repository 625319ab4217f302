"""The outbox: its policies, its bound, its order, and what a kill at any moment leaves of them."""

import contextlib
import time

import gevent
import greenlet
import pytest
import zmq
from gevent.queue import Empty, Full
from helpers import closing, endpoint_of

from gzmqsource import Source, SourceClosed
from gzmqsource.testing import all_blocked, wait_until


def numbered(number):
    return [str(number).encode(), b"tail"]


def number_of(message):
    assert message == numbered(int(message[0])), "torn"
    return int(message[0])


@contextlib.contextmanager
def blocked_pair(context, endpoint="inproc://outbox", **options):
    """A source without a peer, so that everything is queued, and the peer that it can have."""
    receiver = Source.open(zmq.PULL, bind=endpoint, context=context, rcvhwm=1)
    source = Source.open(zmq.PUSH, context=context, linger=0, sndhwm=1, **options)

    def release():
        source.socket.connect(endpoint_of(receiver))

    with closing(receiver, source):
        yield source, receiver, release


def pull(receiver, count):
    return [number_of(receiver.recv(timeout=5)) for _ in range(count)]


def pull_all(receiver, source):
    """Pull until the source has nothing queued, and all that it has sent is here."""
    got = []
    while True:
        all_blocked()
        if receiver.stats().received < source.stats().sent:
            got.append(number_of(receiver.recv(timeout=10)))
        elif source.flush(0):
            return got


def test_block_waits_for_room_and_drops_nothing(context, endpoint):
    with blocked_pair(context, endpoint, outbox=3) as (source, receiver, release):
        sending = gevent.spawn(lambda: [source.send(numbered(n)) for n in range(20)])
        all_blocked()
        assert not sending.dead
        assert source.stats().outbox_depth == 3
        release()
        assert pull(receiver, 20) == list(range(20))
        assert source.stats().dropped == {}


def test_raise_is_full_at_once_even_if_told_to_block(context, endpoint):
    with blocked_pair(context, endpoint, outbox=3, overflow="raise") as (source, receiver, release):
        for number in range(3):
            source.send(numbered(number))
        for options in {}, {"timeout": 5}, {"block": True}:
            with pytest.raises(Full):
                source.send(numbered(3), **options)
        release()
        assert pull_all(receiver, source) == [0, 1, 2]
        assert source.stats().dropped == {}


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_newest", [0, 1, 2]), ("drop_oldest", [7, 8, 9])]
)
def test_dropping_is_counted_and_keeps_the_right_ones(context, endpoint, overflow, kept):
    with blocked_pair(context, endpoint, outbox=3, overflow=overflow) as (
        source,
        receiver,
        release,
    ):
        for number in range(10):
            source.send(numbered(number))
            assert source.stats().outbox_depth <= 3
        assert source.stats().dropped == {overflow.removeprefix("drop_"): 7}
        assert source.stats().outbox_depth == source.stats().outbox_peak == 3
        release()
        assert pull_all(receiver, source) == kept
        stats = source.stats()
        assert (stats.sent, stats.outbox_depth, stats.outbox_peak) == (3, 0, 3)


@pytest.mark.parametrize("outbox", [1, 2, 7])
def test_the_bound_holds_at_every_moment(context, outbox):
    with blocked_pair(context, outbox=outbox) as (source, receiver, release):
        depths = set()

        def send(sender):
            for number in range(20):
                source.send([b"%d" % (sender * 100 + number), b"tail"])
                depths.add(source.stats().outbox_depth)

        senders = [gevent.spawn(send, number) for number in range(5)]
        all_blocked()
        release()
        got = []
        for _ in range(100):
            got += pull(receiver, 1)
            depths.add(source.stats().outbox_depth)
        gevent.joinall(senders, raise_error=True)
        assert max(depths) == outbox
        wait_until(lambda: source.flush(0))
        assert (source.stats().outbox_depth, source.stats().outbox_peak) == (0, outbox)
        for sender in range(5):
            mine = [number for number in got if number // 100 == sender]
            assert mine == list(range(sender * 100, sender * 100 + 20))


@pytest.mark.parametrize("value", [0, -1, 1.5, None, "10"])
def test_a_bound_is_a_positive_int(context, value):
    with pytest.raises(ValueError, match="outbox="):
        Source.open(zmq.PUSH, context=context, outbox=value)


def test_an_unknown_policy_is_refused_with_the_ones_there_are(context):
    with pytest.raises(ValueError, match="block, raise, drop_newest, drop_oldest"):
        Source.open(zmq.PUSH, context=context, overflow="wait")


def test_blocked_senders_are_served_in_the_order_they_came(context):
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        source.send(numbered(0))
        for number in range(1, 30):
            gevent.spawn(source.send, numbered(number))
            all_blocked(1)
        release()
        assert pull(receiver, 30) == list(range(30))


def test_nobody_overtakes_a_blocked_sender(context):
    with blocked_pair(context, outbox=2) as (source, receiver, release):
        for number in range(2):
            source.send(numbered(number))
        sent = list(range(2))
        for number in range(2, 6):
            gevent.spawn(source.send, numbered(number))
            all_blocked(1)
            sent.append(number)
        release()
        number = 100
        got = []
        while number < 150:  # newcomers that try their luck at each moment
            with contextlib.suppress(Full):
                source.send_nowait(numbered(number))
                sent.append(number)
            number += 1
            with contextlib.suppress(Empty):
                got.append(number_of(receiver.recv(timeout=0.001)))
        got += pull_all(receiver, source)
        assert got == sent


def test_flush_is_true_when_libzmq_has_taken_everything(context, endpoint):
    with blocked_pair(context, endpoint) as (source, receiver, release):
        assert source.flush() is True
        for number in range(5):
            source.send(numbered(number))
        flushing = gevent.spawn(source.flush)
        all_blocked()
        assert not flushing.dead
        release()
        assert pull(receiver, 5) == list(range(5))
        assert flushing.get(timeout=5) is True
        assert source.stats().sent == 5


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_flush_is_false_when_its_time_is_over(context, timeout):
    with blocked_pair(context) as (source, _receiver, _release):
        source.send(numbered(0))
        assert source.flush(timeout) is False
        assert source.stats().outbox_depth == 1


def test_flush_waits_for_blocked_senders_too(context):
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        for number in range(4):
            gevent.spawn(source.send, numbered(number))
        all_blocked()
        flushing = gevent.spawn(source.flush)
        release()
        got = pull(receiver, 4)
        assert flushing.get(timeout=5) is True
        assert (got, source.stats().sent) == ([0, 1, 2, 3], 4)


def test_flush_tells_when_the_source_closes_over_it(context):
    with blocked_pair(context) as (source, _receiver, _release):
        source.send(numbered(0))
        flushing = gevent.spawn(source.flush)
        all_blocked()
        source.close()
        with pytest.raises(SourceClosed):
            flushing.get(timeout=10)


def test_closing_tells_every_blocked_sender_and_counts_what_was_queued(context):
    with blocked_pair(context, outbox=2) as (source, _receiver, _release):
        senders = [gevent.spawn(source.send, numbered(number)) for number in range(5)]
        all_blocked()
        source.close()
        gevent.joinall(senders, timeout=10)
        assert [type(sender.exception) for sender in senders] == [type(None)] * 2 + [
            SourceClosed
        ] * 3
        assert source.stats().dropped == {"unsent": 2}
        assert source.stats().outbox_depth == 0


def test_the_age_is_that_of_the_oldest_queued_message(context):
    with blocked_pair(context, outbox=2, overflow="drop_oldest") as (source, receiver, release):
        assert source.stats().oldest_queued_age == 0.0
        before = time.monotonic()
        source.send(numbered(0))
        after = time.monotonic()
        wait_until(lambda: source.stats().oldest_queued_age >= 0.02)
        between = time.monotonic()
        source.send(numbered(1))
        asked = time.monotonic()
        age = source.stats().oldest_queued_age
        assert asked - after <= age <= time.monotonic() - before
        source.send(numbered(2))  # drops the first
        age = source.stats().oldest_queued_age
        assert age <= time.monotonic() - between
        release()
        assert pull_all(receiver, source) == [1, 2]
        assert source.stats().oldest_queued_age == 0.0


def test_nothing_leaves_the_outbox_before_libzmq_has_taken_it(context):
    """What was put in is either queued or counted as sent, and what is sent has room in libzmq."""
    with blocked_pair(context, outbox=1000) as (source, receiver, release):
        for number in range(50):
            source.send(numbered(number))
        release()
        pulled = 0
        while pulled < 50:
            assert source.stats().sent + source.stats().outbox_depth == 50
            # one on its way in each pipe of inproc, whose high-water marks add up, and no more
            all_blocked(1)
            assert pulled <= source.stats().sent <= pulled + 3
            pull(receiver, 1)
            pulled += 1
        assert source.flush(5)


def test_what_was_not_taken_is_still_there_after_a_stop(context):
    with blocked_pair(context) as (source, _receiver, release):
        for number in range(50):
            source.send(numbered(number))
        release()
        all_blocked()
        taken = source.stats().sent
        unsent = source.stop(0.05)
        assert [number_of(message) for message in unsent] == list(range(taken, 50))


# A kill at every moment. Each scenario runs again and again; in the k-th run something is thrown
# into the victim when it waits for the k-th time.


class Patience(gevent.Timeout):
    pass


class Thrower:
    """Throws into a greenlet when it has begun its k-th wait, or in place of what ends that wait.

    The second is a kill that comes when the outcome is decided, and the waiter not yet told.
    """

    def __init__(self, victim, moment, error, at_end):
        self.victim, self.left, self.error, self.at_end = victim, moment, error, at_end
        self.threw = False
        self._before = None
        #: Whether the switch that starts the victim has been seen. It ends no wait, and while it
        #: lasts a victim of gevent before 26 is `ready`.
        self._started = False

    def __enter__(self):
        self._before = greenlet.settrace(self._trace)
        return self

    def __exit__(self, *_):
        greenlet.settrace(self._before)

    def _trace(self, event, arguments):
        origin, target = arguments
        if self.threw or event != "switch":
            return
        if not self._started:
            self._started = self.victim is target
        elif self.victim is (target if self.at_end else origin) and not self.victim.ready():
            self._count()

    def _count(self):
        self.left -= 1
        if self.left >= 0:
            return
        self.threw = True
        if self.at_end:
            raise self.error
        gevent.get_hub().loop.run_callback(self._throw)

    def _throw(self):
        if not self.victim.ready():
            self.victim.throw(self.error)


thrown = pytest.mark.parametrize("error", [gevent.GreenletExit, Patience], ids=["kill", "timeout"])
at_any_time = pytest.mark.parametrize("at_end", [False, True], ids=["waiting", "decided"])


def moments(scenario, at_least):
    """Run a scenario for each wait of its victim, until one run ends undisturbed."""
    moment = 0
    while scenario(moment):
        moment += 1
        assert moment < 200
    assert moment >= at_least


class Log:
    """What each sender was told about its messages."""

    def __init__(self, source):
        self.source = source
        self.accepted = []
        self.told = []

    def send(self, numbers, **options):
        for number in numbers:
            try:
                self.source.send(numbered(number), **options)
            except BaseException:
                self.told.append(number)
                raise
            self.accepted.append(number)

    def check(self, got):
        """No message lost unless its own sender was told, none doubled, each sender in order."""
        assert len(set(got)) == len(got), "doubled"
        assert set(self.accepted) <= set(got), "lost"
        assert set(got) <= set(self.accepted) | set(self.told), "invented"
        for sender in {number // 100 for number in got}:
            mine = [number for number in got if number // 100 == sender]
            assert mine == sorted(mine), "out of order"


def start_victim(function):
    """A greenlet that swallows what is thrown into it."""

    def run():
        with contextlib.suppress(Patience, gevent.GreenletExit):
            function()

    return gevent.Greenlet(run)


def disturb(victim, moment, error, at_end=False):
    thrower = Thrower(victim, moment, error, at_end)
    victim.start()
    return thrower


@thrown
@at_any_time
def test_a_kill_at_any_moment_of_send_loses_no_message(context, error, at_end):
    def scenario(moment):
        with blocked_pair(context, f"inproc://{error.__name__}{moment}", outbox=2) as (
            source,
            receiver,
            release,
        ):
            log = Log(source)
            others = [gevent.spawn(log.send, range(s * 100, s * 100 + 4)) for s in (1, 2)]
            victim = start_victim(lambda: log.send(range(8)))
            with disturb(victim, moment, error, at_end) as thrower:
                all_blocked(1)
                release()
                got = pull_all(receiver, source)
            gevent.joinall([victim, *others], timeout=5, raise_error=True)
            got += pull_all(receiver, source)
            log.check(got)
            assert len(log.told) <= 1
            assert source.stats().sent == len(got)
            assert source.flush(1)
            return thrower.threw

    moments(scenario, at_least=4)


@thrown
def test_a_kill_at_any_moment_of_recv_loses_no_message(context, error):
    def scenario(moment):
        with blocked_pair(context, f"inproc://{error.__name__}{moment}") as (
            source,
            receiver,
            release,
        ):
            got = []

            def receive():
                while True:
                    got.append(number_of(receiver.recv(timeout=60)))

            victim = start_victim(receive)
            other = start_victim(receive)
            release()
            with disturb(victim, moment, error) as thrower:
                other.start()
                for number in range(12):
                    source.send(numbered(number))
                    all_blocked(1)
                victim.kill()
                other.kill()
            got += pull_all(receiver, source)
            assert sorted(got) == list(range(12))
            return thrower.threw and moment < 6

    moments(scenario, at_least=4)


@thrown
@at_any_time
def test_a_kill_at_any_moment_of_flush_loses_no_message(context, error, at_end):
    def scenario(moment):
        with blocked_pair(context, f"inproc://{error.__name__}{moment}", outbox=3) as (
            source,
            receiver,
            release,
        ):
            log = Log(source)
            sender = gevent.spawn(log.send, range(10))
            all_blocked(1)
            victim = start_victim(lambda: [source.flush(0.001), source.flush(), source.flush()])
            with disturb(victim, moment, error, at_end) as thrower:
                all_blocked(3)
                release()
                got = pull_all(receiver, source)
                victim.join(5)
            sender.join(5)
            got += pull_all(receiver, source)
            assert got == list(range(10))
            assert source.flush(1)
            return thrower.threw

    moments(scenario, at_least=1)


@thrown
@pytest.mark.parametrize("spawn", [None, 2])
def test_a_stop_that_is_killed_at_any_moment_can_be_stopped_again_without_loss(
    context, error, spawn
):
    def scenario(moment):
        handled, unsent = [], []

        def handle(message):
            gevent.sleep(0.001)
            handled.append(number_of(message))
            server.send(message)

        server = Source.open(
            zmq.DEALER, handle, bind="tcp://127.0.0.1:*", context=context, spawn=spawn, outbox=3
        )
        peer = Source.open(zmq.DEALER, connect=endpoint_of(server), context=context, linger=0)
        with closing(server, peer):
            server.start()
            for number in range(12):
                peer.send(numbered(number))
            wait_until(lambda: len(handled) > 2)
            victim = start_victim(lambda: unsent.extend(server.stop(10)))
            got = []
            reading = gevent.spawn(lambda: [got.append(number_of(message)) for message in peer])
            with disturb(victim, moment, error) as thrower:
                victim.join(20)
                assert victim.dead
            unsent += server.stop(10)
            assert server.closed
            received = server.stats().received
            wait_until(lambda: len(got) + len(unsent) >= received)
            reading.kill()
            assert sorted(handled) == list(range(received))
            assert sorted(got + [number_of(m) for m in unsent]) == sorted(handled)
            assert server.stats().dropped == {}
        return thrower.threw

    moments(scenario, at_least=1)

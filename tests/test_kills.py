"""What a kill at any moment leaves of the messages: all of them.

Each scenario runs again and again; in the k-th run something is thrown into the victim when it
waits for the k-th time.
"""

import contextlib
import functools

import gevent
import greenlet
import pytest
import striking
import zmq
from gevent.event import Event
from helpers import closing, endpoint_of
from outboxes import blocked_pair, number_of, numbered, pull_all

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until


class Patience(gevent.Timeout):
    pass


class Brief(Source):
    """A source to which it seems quiet soon."""

    quiet = 0.02


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


#: The moments are the waits of a victim.
moments = functools.partial(striking.moments, most=200)


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
        """What was accepted was sent, once, each sender's in order; and nothing that raised."""
        assert len(set(got)) == len(got), "doubled"
        assert set(self.accepted) <= set(got), "lost"
        assert set(got) <= set(self.accepted), "sent, although its sender was told that it was not"
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
            got: list[int] = []
            reading = gevent.spawn(got.extend, map(number_of, peer))
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


@thrown
@at_any_time
@pytest.mark.parametrize("spawn", [None, 3], ids=["None", "3"])
def test_a_stop_that_is_killed_while_it_receives_loses_nothing_in_silence(
    context, tmp_path, spawn, error, at_end
):
    def scenario(moment):
        gate, handled = Event(), []

        def handle(message):
            gate.wait()
            handled.append(message)

        # What is sent before there is a connection passes it at once, and is there at once.
        address = f"ipc://{tmp_path}/receiver"
        sender = Source.open(zmq.PUSH, connect=address, context=context, linger=0, reconnect_ivl=1)
        for number in range(20):
            sender.send(numbered(number))
        receiver = Brief.open(zmq.PULL, handle, bind=address, context=context, spawn=spawn)
        with closing(receiver, sender):
            receiver.start()
            wait_until(lambda: receiver.stats().received)
            victim = start_victim(lambda: receiver.stop(20))
            with disturb(victim, moment, error, at_end) as thrower:
                all_blocked()
                gate.set()
                victim.join(20)
            receiver.stop(20)
            assert receiver.closed
            dropped = receiver.stats().dropped
            assert len(handled) + sum(dropped.values()) == 20, dropped
            assert set(dropped) <= {"unread"}
            return thrower.threw

    moments(scenario, at_least=1)

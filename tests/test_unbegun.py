"""Messages whose greenlets end before they begin: killed, or struck by a signal handler."""

import contextvars
import functools
import itertools

import gevent
import pytest
from gevent.hub import get_hub
from gevent.pool import Pool
from handlers import INPROC, fed
from striking import Struck

from gzmqsource._source.back_off import BackOff
from gzmqsource._source.spawned import Spawned
from gzmqsource.testing import all_blocked, wait_until


def test_a_message_is_handled_although_its_greenlet_is_struck_as_it_begins(context, monkeypatch):
    """A signal handler may raise before the first line of what a greenlet runs."""
    run = Spawned._run
    got: list[list[bytes]] = []
    numbers = itertools.count()

    def struck(*arguments):
        if not next(numbers) % 3:
            raise Struck
        run(*arguments)

    monkeypatch.setattr(get_hub(), "handle_error", lambda *_: None)
    monkeypatch.setattr(Spawned, "_run", struck)
    with fed(context, got.append, INPROC, spawn=Pool(10)) as (server, client):
        for number in range(20):
            client.send(b"%d" % number)
        wait_until(lambda: len(got) == 20)
        assert server.stop(10) == []
        assert server.stats().in_hand == 0
    assert sorted(got) == sorted([b"%d" % number] for number in range(20))


@pytest.mark.parametrize("delay", [0, 60])
def test_a_message_is_handled_although_its_greenlet_is_killed_before_it_begins(context, delay):
    pool = Pool(10)
    got: list[list[bytes]] = []

    def spawn(run, message):
        if len(killed) < 3:
            greenlet = pool.greenlet_class(run, message)
            pool.add(greenlet)
            kill = functools.partial(greenlet.kill, block=False)
            if delay:
                greenlet.start_later(delay)
                gevent.spawn_later(0.002, kill)
            else:
                get_hub().loop.run_callback(kill)
                greenlet.start()
            killed.append(greenlet)
            return greenlet
        return pool.spawn(run, message)

    killed: list[gevent.Greenlet[..., object]] = []
    with fed(context, got.append, INPROC, spawn=spawn) as (server, client):
        for number in range(10):
            client.send(b"%d" % number)
        wait_until(lambda: len(got) == 10)
        assert server.stop(10) == []
        assert server.stats().in_hand == 0
    assert sorted(got) == [[b"%d" % number] for number in range(10)]
    assert len(killed) == 3


def test_a_message_whose_greenlet_a_stop_kills_before_it_begins_is_counted(context):
    got: list[list[bytes]] = []

    def later(run, message):
        return gevent.spawn_later(60, run, message)

    with fed(context, got.append, INPROC, spawn=later) as (server, client):
        client.send(b"x")
        wait_until(lambda: server._receiver._crew._spawned._handlers)
        assert server.stop(0.05) == []
        all_blocked()
        assert server.stats().dropped == {"killed": 1}
        assert (got, server.stats().in_hand) == ([], 0)


@pytest.mark.parametrize("drain", [True, False])
def test_a_stop_waits_for_what_was_killed_just_before_it_began(context, drain):
    killed: list[gevent.Greenlet[..., object]] = []
    got: list[list[bytes]] = []

    def later(run, message):
        if len(killed) == 5:
            return gevent.spawn(run, message)
        killed.append(gevent.spawn_later(60, run, message))
        return killed[-1]

    with fed(context, got.append, INPROC, spawn=later) as (server, client):
        for number in range(5):
            client.send(b"%d" % number)
        wait_until(lambda: len(killed) == 5)
        gevent.killall(killed, block=False)
        assert server.stop(10, drain=drain) == []
        assert (sorted(got), server.stats().in_hand) == ([[b"%d" % n] for n in range(5)], 0)


def test_a_stop_has_a_reader_for_what_is_killed_while_it_waits(context):
    spawned: list[gevent.Greenlet[..., object]] = []
    got: list[list[bytes]] = []

    def later(run, message):
        spawned.append(gevent.spawn_later(0 if spawned else 60, run, message))
        return spawned[-1]

    with fed(context, got.append, INPROC, spawn=later) as (server, client):
        client.send(b"x")
        wait_until(lambda: spawned)
        stopping = gevent.spawn(server.stop, 10, drain=False)
        wait_until(lambda: not server._receiver._crew._workers)
        spawned[0].kill()
        assert stopping.get(timeout=20) == []
        assert (got, server.stats().dropped) == ([[b"x"]], {})


def test_what_is_killed_before_it_began_is_counted_if_the_source_was_closed(context):
    killed: list[gevent.Greenlet[..., object]] = []

    def later(run, message):
        killed.append(gevent.spawn_later(60, run, message))
        return killed[-1]

    with fed(context, print, INPROC, spawn=later) as (server, client):
        client.send(b"x")
        wait_until(lambda: killed)
        server.close()
        gevent.killall(killed)
        all_blocked()
        assert (server.stats().dropped, server.stats().in_hand) == ({"unhandled": 1}, 0)


def test_a_message_is_handled_although_the_spawn_function_kills_its_greenlet(context):
    got: list[list[bytes]] = []
    numbers = itertools.count()

    def spawn(run, message):
        greenlet = gevent.spawn(run, message)
        if not next(numbers) % 3:
            greenlet.kill(block=False)
        return greenlet

    with fed(context, got.append, INPROC, spawn=spawn) as (_, client):
        for number in range(10):
            client.send(b"%d" % number)
        wait_until(lambda: len(got) == 10)
    assert sorted(got) == [[b"%d" % number] for number in range(10)]


def test_messages_whose_greenlets_are_all_killed_are_spawned_with_pauses(context, monkeypatch):
    pauses = []
    fail = BackOff.fail

    def failing(back_off):
        pauses.append(fail(back_off))
        return pauses[-1]

    def spawn(run, message):
        greenlet = gevent.spawn_later(60, run, message)
        gevent.spawn_later(0.001, greenlet.kill, block=False)
        return greenlet

    monkeypatch.setattr(BackOff, "fail", failing)
    with fed(context, print, INPROC, spawn=spawn) as (_, client):
        client.send(b"x")
        wait_until(lambda: len(pauses) > 4)
        assert pauses[4] > 4 * pauses[0]


def test_a_message_is_handled_although_a_signal_handler_raises_before_its_handler(context):
    contexts = itertools.count()
    got: list[list[bytes]] = []

    class Base:
        """Context variables whose copy is struck when it returns."""

        def copy(self):
            if not next(contexts):
                raise Struck
            return contextvars.copy_context()

    with fed(context, got.append, INPROC, spawn=Pool(3), on_error=lambda *_: None) as (
        server,
        client,
    ):
        server._receiver._crew._spawned._base = Base()
        client.send(b"x")
        wait_until(lambda: got == [[b"x"]])


def test_a_stop_does_not_wait_for_a_handler_whose_end_was_struck(context, monkeypatch):
    got: list[list[bytes]] = []
    note_end = Spawned._note_end
    ends = itertools.count()

    def struck(spawned, handler):
        if not next(ends):
            raise Struck
        note_end(spawned, handler)

    monkeypatch.setattr(get_hub(), "handle_error", lambda *_: None)
    monkeypatch.setattr(Spawned, "_note_end", struck)
    with fed(context, got.append, INPROC, spawn=Pool(3)) as (server, client):
        client.send(b"x")
        wait_until(lambda: got)
        stopping = gevent.spawn(server.stop, 3600)
        assert stopping.get(timeout=20) == []

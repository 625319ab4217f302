"""Messages that were read and not begun: how many, in which order, and their end."""

import pytest
from handlers import INPROC, NUMBERS, Recorder, fed, fill_hand, send_each
from striking import Struck

from gzmqsource._socket.budget import Budget
from gzmqsource.testing import all_blocked, wait_until


def test_no_more_is_read_than_is_likely_to_be_handled_in_time(context, monkeypatch):
    in_hand: list[int] = []

    def handle(_message):
        in_hand.append(server.stats().in_hand)

    with fed(context, handle, INPROC) as (server, client):
        monkeypatch.setattr(Budget, "likely", lambda _budget: 3)
        fill_hand(server, client, in_hand)
        in_hand.clear()
        send_each(client, *NUMBERS)
        all_blocked()
        server.resume()
        wait_until(lambda: len(in_hand) == len(NUMBERS))
    assert max(in_hand) == 2  # and the one that is handled


def test_an_exception_between_two_steps_of_a_batch_keeps_the_order(context, monkeypatch):
    """A signal handler may raise when the messages are there, and nothing is done with them."""
    handle = Recorder()
    raised: list[int] = []
    with fed(context, handle, INPROC, on_error=lambda *_: None) as (server, client):
        core = server._core
        receive = core.receive

        def strike(into, limit):
            receive(into, limit)
            if len(into) > 1 and not raised:
                raised.append(len(into))
                raise Struck

        fill_hand(server, client, handle.begun)
        monkeypatch.setattr(core, "receive", strike)
        send_each(client, *NUMBERS)
        all_blocked()
        server.resume()
        wait_until(lambda: len(handle.begun) == 20 + len(NUMBERS))
    assert raised
    assert handle.begun[20:] == NUMBERS


@pytest.mark.parametrize("drain", [True, False])
def test_no_message_is_handled_once_the_only_worker_has_stopped_the_source(context, drain):
    """Up to 127 were, and could not be answered."""

    def stop():
        server.stop(10, drain=drain)

    handle = Recorder(stop=stop)
    with fed(context, handle, INPROC) as (server, client):
        fill_hand(server, client, handle.begun)
        send_each(client, b"stop", *[b"x"] * 20)
        all_blocked()
        server.resume()
        wait_until(lambda: server.closed)
        all_blocked()
        assert len(handle.begun) == 21
        dropped = server.stats().dropped
        assert dropped["unhandled"] > 0
        assert sum(dropped.values()) == 20

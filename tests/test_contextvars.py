"""The context variables that a handler begins with, whatever earlier ones have set."""

import contextvars

import gevent
import pytest
from handlers import INPROC, every_spawn, fed

from gzmqsource.testing import wait_until

NAME: contextvars.ContextVar[object] = contextvars.ContextVar("NAME")
OTHER: contextvars.ContextVar[object] = contextvars.ContextVar("OTHER", default="default")


class Odd:
    """A value that cannot be compared."""

    def __eq__(self, other):
        raise ValueError

    def __hash__(self):
        return 0


def handled(context, spawn, handle, count=30):
    """Have messages handled, with ``NAME`` set to "start" where the source is started."""
    seen = []

    def record(message):
        seen.append((NAME.get(None), OTHER.get()))
        handle(int(message[0]))

    def serve():
        NAME.set("start")
        with fed(context, record, INPROC, spawn=spawn) as (_, client):
            for number in range(count):
                client.send(b"%d" % number)
            wait_until(lambda: len(seen) == count)

    gevent.spawn(serve).get(timeout=20)
    return seen


@every_spawn
@pytest.mark.parametrize("waits", [False, True])
def test_each_handler_begins_with_the_variables_of_the_start(context, spawn, waits):
    def handle(number):
        if number % 3:
            NAME.set(number)
        if number % 2:
            OTHER.set(number)
        if waits:
            gevent.sleep(0)
        assert number % 3 == 0 or NAME.get() == number

    assert handled(context, spawn(), handle) == [("start", "default")] * 30


@every_spawn
def test_a_handler_that_raises_leaves_no_variable_behind(context, monkeypatch, spawn):
    def handle(number):
        OTHER.set(number)
        raise KeyError

    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *_: None)
    assert handled(context, spawn(), handle) == [("start", "default")] * 30


@every_spawn
def test_values_that_cannot_be_compared_are_left_behind_too(context, spawn):
    assert handled(context, spawn(), lambda _: NAME.set(Odd())) == [("start", "default")] * 30


@every_spawn
def test_values_that_are_equal_to_those_of_the_start_are_left_behind_too(context, spawn):
    class Another(str):
        pass

    seen = handled(context, spawn(), lambda _: NAME.set(Another("start")))
    assert [type(name) for name, _ in seen] == [str] * 30


@every_spawn
def test_an_error_is_reported_with_the_variables_of_its_handler(context, spawn):
    seen = []

    def handle(message):
        NAME.set(message[0])
        raise KeyError

    def on_error(error, message):
        seen.append((message[0], NAME.get(None)))

    with fed(context, handle, INPROC, spawn=spawn(), on_error=on_error) as (_, client):
        client.send(b"one")
        client.send(b"two")
        wait_until(lambda: len(seen) == 2)
    assert seen == [(b"one", b"one"), (b"two", b"two")]

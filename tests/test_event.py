"""The event that nobody waits for while it is set."""

import gevent

from gzmqsource._base.event import Event
from gzmqsource.testing import all_blocked


def test_who_comes_while_others_are_notified_is_not_forgotten_with_them():
    event = Event()

    def set_and_wait():
        event.set()  # who waits will be notified
        return event.wait(5)

    first = gevent.spawn(event.wait)
    all_blocked()
    second = gevent.spawn(set_and_wait)
    first.kill(block=False)
    assert second.get(timeout=5)
    first.join()


def test_it_waits_until_it_is_set_or_the_time_is_over():
    event = Event()
    assert not event.wait(0.001)
    waiting = gevent.spawn(event.wait)
    all_blocked()
    event.set()
    assert waiting.get(timeout=5)

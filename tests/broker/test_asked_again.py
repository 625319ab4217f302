"""A request that is asked again has one reply, and whoever does not get it is told."""

import contextlib

import pytest
from asking import Asker, Detail, Flag, Kind, key_of, responder_of
from brokering import ScriptedBroker, Sleeper
from helpers import endpoint_of

from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder, shield


@pytest.mark.parametrize("later_first", [True, False])
def test_a_broker_is_told_if_the_reply_to_its_request_goes_to_another(context, later_first):
    sleeper = Sleeper()
    with ScriptedBroker(context) as one, ScriptedBroker(context) as other:
        brokers = [endpoint_of(each.source) for each in (one, other)]
        worker = Responder.join(brokers, sleeper, 2, context=context, linger=0)
        with contextlib.closing(worker):
            worker.start()
            wait_until(lambda: one.joins() and other.joins())
            key = key_of()
            asks = [(one, 0), (other, 1)]
            (first, attempt), (second, other_attempt) = reversed(asks) if later_first else asks
            first.say(Kind.ASK, key, [b"x"], attempt=attempt, flags=Flag.KEEP)
            wait_until(lambda: sleeper.begun)
            second.say(Kind.ASK, key, [b"x"], attempt=other_attempt, flags=Flag.KEEP)
            wait_until(lambda: [each.key for each in one.heard if each.kind == Kind.LOST] == [key])
            one.say(Kind.CANCEL, key)  # before it knew
            one.say(Kind.PING, key_of())
            wait_until(lambda: one.joins()[-1][0] != bytes(16))
            sleeper.go_on.set()
            wait_until(lambda: [e.key for e in other.heard if e.kind == Kind.REPLY] == [key])
            assert sleeper.begun == [b"x"]


def test_a_request_that_was_cancelled_and_is_asked_again_ends_for_the_one_who_asks(context):
    sleeper = Sleeper()

    def shielded(payload):
        with shield():
            return sleeper(payload)

    with responder_of(context, shielded) as responder, Asker(context, responder) as one:
        key = one.ask(flags=Flag.KEEP)
        wait_until(lambda: sleeper.begun)
        one.say(Kind.CANCEL, key)
        wait_until(lambda: responder._handling.jobs[key].is_cancelled)
        with Asker(context, responder) as other:
            other.ask(key=key, flags=Flag.KEEP, attempt=1)
            assert other.wait_for(key, Kind.LOST) == Detail.NONE
        sleeper.go_on.set()

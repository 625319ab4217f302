"""A responder that is stopped under load, and started anew, loses nothing, and repeats nothing."""

import functools
import time
from collections import Counter

import gevent
import pytest
import zmq
from asking import Asker, Detail, Kind, key_of, responder_of
from helpers import endpoint_of

from gzmqsource.monitor import Monitor
from gzmqsource.proxy import Proxy
from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder
from gzmqsource.workers._connection import Connection


class Patient(Asker):
    """An asker that answers LEAVING, and holds what is refused until a new session is there.

    Parameters
    ----------
    hold : float or None
        Seconds for which it holds what it has; None: until another session has said something.
    """

    def __init__(self, context, endpoint, hold=None, **options):
        super().__init__(context, endpoint, **options)
        self.hold = hold
        self.ended: Counter[bytes] = Counter()
        self.outstanding: set[bytes] = set()
        self.held: list[bytes] = []
        self.session = 0
        self.goes_on = 0.0
        self.is_holding = False
        self.details: Counter[int] = Counter()

    def request(self, key):
        self.outstanding.add(key)
        if self.is_holding:
            self.held.append(key)
        else:
            self.ask(key, key=key)

    def _read(self, message):
        left = self.left
        super()._read(message)
        header, payload = self.heard.pop()
        if header.session not in (self.session, left):
            self.session = header.session
            if self.hold is None:
                self._go_on()
        if header.kind == Kind.LEAVING:
            self.say(Kind.NOMORE)
            if self.hold is None:
                self.is_holding = True
                gevent.spawn(self._probe)
            else:
                self._hold()
        elif header.kind == Kind.REPLY:
            assert payload == [header.key]
            self.ended[header.key] += 1
            self.outstanding.discard(header.key)
        elif header.kind == Kind.REFUSED:
            self.details[header.detail] += 1
            self.held.append(header.key)
            if not self.is_holding:
                self._hold()
        else:
            assert header.kind == Kind.PONG, header

    def _probe(self):
        while self.is_holding and not self.source.closed:
            self.say(Kind.PING, left=60_000)
            gevent.sleep(0.02)

    def _hold(self):
        """Ask nothing for so long from now on, as the protocol has it."""
        self.goes_on = time.monotonic() + (self.hold or 0.15)
        if not self.is_holding:
            self.is_holding = True
            gevent.spawn(self._wait)

    def _wait(self):
        while (left := self.goes_on - time.monotonic()) > 0:
            gevent.sleep(max(left, 0.001))
        if not self.source.closed:
            self._go_on()

    def _go_on(self):
        self.is_holding = False
        held, self.held = self.held, []
        for key in held:
            self.ask(key, key=key)


def echo(payload):
    return payload


def has_grown(counter, size):
    return len(counter) > size


class Load:
    """Has each asker ask all the time, with so many requests outstanding."""

    def __init__(self, askers, most):
        self._askers = askers
        self._most = most
        self._goes_on = True
        self._greenlets = [gevent.spawn(self._ask, asker) for asker in askers]

    def end(self):
        """Ask no more, and wait for what was asked; return how often each request ended."""
        self._goes_on = False
        gevent.joinall(self._greenlets, raise_error=True)
        wait_until(lambda: not any(asker.outstanding for asker in self._askers))
        return sum((asker.ended for asker in self._askers), Counter())

    def _ask(self, asker):
        while self._goes_on:
            if len(asker.outstanding) < self._most:
                asker.request(key_of())
            else:
                gevent.sleep(0.001)


@pytest.mark.limit(120)
def test_20_restarts_under_load(context):
    executed: Counter[bytes] = Counter()

    def handler(payload):
        executed[payload[0]] += 1
        gevent.sleep(0.002)
        return payload

    responder = Responder.open(handler, bind="tcp://127.0.0.1:*", context=context, spawn=5)
    endpoint = endpoint_of(responder.source)
    responder.start()
    askers = [Patient(context, endpoint) for _ in range(3)]
    load = Load(askers, 20)
    wait_until(lambda: all(asker.ended for asker in askers))
    for _ in range(20):
        before = len(executed)
        assert responder.stop(20) == 0
        responder = Responder.open(handler, bind=endpoint, context=context, spawn=5)
        responder.start()
        wait_until(functools.partial(has_grown, executed, before + 20))
    ended = load.end()
    assert set(ended.values()) == set(executed.values()) == {1}
    assert len(ended) == len(executed) > 400
    assert all(set(asker.details) <= {Detail.LEAVING} for asker in askers)
    for asker in askers:
        asker.close()
    responder.close()


@pytest.mark.limit(120)
def test_one_of_two_behind_a_proxy_is_stopped_and_another_takes_its_place(context):
    executed: Counter[bytes] = Counter()

    def handler(payload):
        executed[payload[0]] += 1
        # Longer than an asker holds what it has, now and then.
        gevent.sleep(0.25 if len(executed) % 50 == 0 else 0.002)
        return payload

    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    front.bind("tcp://127.0.0.1:*")
    back.bind("tcp://127.0.0.1:*")

    backend = endpoint_of(back)
    frontend = endpoint_of(front)

    def joined():
        responder = Responder.open(handler, connect=backend, context=context, spawn=5)
        responder.start()
        return responder

    with Proxy(front, back):
        responders = [joined(), joined()]
        askers = [Patient(context, frontend, hold=Connection.hold) for _ in range(2)]
        load = Load(askers, 10)
        wait_until(lambda: all(each.stats().replies > 20 for each in responders))
        for _ in range(5):
            responders.append(joined())
            oldest = responders.pop(0)
            assert oldest.stop(20) == 0
            before = len(executed)
            wait_until(functools.partial(has_grown, executed, before + 50))
        ended = load.end()
        assert set(ended.values()) == set(executed.values()) == {1}
        assert len(ended) == len(executed)
        for each in (*askers, *responders):
            each.close()


def test_a_late_answer_to_the_server_before_is_none_to_this_one(context):
    with responder_of(context, echo) as before, Asker(context, before) as asker:
        endpoint = endpoint_of(before.source)
        asker.ask()
        stopping = gevent.spawn(before.stop, 20)
        asker.until_heard(Kind.LEAVING)
        with Monitor(asker.source, zmq.EVENT_DISCONNECTED) as monitor:
            before.close()
            monitor.recv(timeout=10)
        stopping.join()
        asker.say(Kind.NOMORE)
        late = asker.ask()
        with responder_of(context, echo, endpoint, dead_after=10) as responder:
            asker.wait_for(late)
            stopping = gevent.spawn(responder.stop, 20)
            asker.until_heard(Kind.LEAVING, 2)
            assert asker.wait_for(asker.ask(), Kind.REFUSED) == Detail.LEAVING
            assert not stopping.ready()
            asker.say(Kind.NOMORE)
            assert stopping.get(timeout=10) == 0

"""Sources that were forgotten, and hubs that do not run: what the log and the repr say."""

import functools
import logging
import re
import sys
import warnings

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.monkey import get_original
from helpers import closing, endpoint_of
from mistakes import counts_topics

from gzmqsource import Source
from gzmqsource._source import neglect
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import RemoteError, Requester, Responder


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """The first look comes at once."""
    monkeypatch.setattr(neglect, "FIRST", 0.01)


def lines(caplog):
    return [record.message for record in caplog.records if record.name == "gzmqsource.source"]


def with_a_message(context, kind, other, *arguments, **options):
    """A source, and the peer that has sent it a message."""
    source = Source.open(kind, *arguments, bind="inproc://a", context=context, **options)
    peer = Source.open(other, connect="inproc://a", context=context)
    peer.send(b"message")
    return source, peer


def looks():
    """Wait until all sources of this hub were looked at."""
    patrol = neglect._patrols[get_hub()]
    delay = patrol._delay
    wait_until(lambda: patrol._delay > delay or not patrol._sources)
    all_blocked()


def test_a_handler_that_was_not_started_is_reported_once_messages_come(context, caplog):
    with closing(*with_a_message(context, zmq.PULL, zmq.PUSH, print)):
        assert wait_until(lambda: lines(caplog)) == [
            "<Source PULL inproc://a not started> has messages, and its handler is not called: "
            "call start() or serve_forever()"
        ]


def test_a_router_that_nothing_pulls_is_reported_once_messages_come(context, caplog):
    with closing(*with_a_message(context, zmq.ROUTER, zmq.DEALER)):
        assert wait_until(lambda: lines(caplog)) == [
            "<Source ROUTER inproc://a started> has messages that nothing takes: call recv(), "
            "or open it with a handler and start it"
        ]
        looks()
        assert len(lines(caplog)) == 1


def test_a_later_message_is_found_by_a_later_look(context, caplog, monkeypatch):
    monkeypatch.setattr(neglect, "FACTOR", 1.0)
    router = Source.open(zmq.ROUTER, bind="inproc://a", context=context)
    dealer = Source.open(zmq.DEALER, connect="inproc://a", context=context)
    with closing(router, dealer):
        for _ in range(3):
            gevent.sleep(neglect.FIRST)
        assert lines(caplog) == []
        dealer.send(b"message")
        assert "has messages that nothing takes" in wait_until(lambda: lines(caplog))[0]


def test_a_new_source_is_looked_at_soon_beside_an_old_one(context, caplog, monkeypatch):
    monkeypatch.setattr(neglect, "FACTOR", 10_000.0)
    with closing(Source.open(zmq.PULL, context=context)):
        looks()
        assert neglect._patrols[get_hub()]._timer is not None
        with closing(*with_a_message(context, zmq.ROUTER, zmq.DEALER)):
            assert wait_until(lambda: lines(caplog))


@counts_topics
@pytest.mark.parametrize("handler", [(), (print,)], ids=["pulled", "served"])
def test_a_sub_without_a_topic_is_reported(context, caplog, handler):
    with closing(Source.open(zmq.SUB, *handler, context=context)) as (source,):
        source.start()
        assert wait_until(lambda: lines(caplog)) == [
            "<Source SUB started> gets nothing, for it subscribes to nothing: pass subscribe='' "
            "for everything, or call source.socket.subscribe(topic)"
        ]


@pytest.mark.parametrize("topic", ["", "weather"])
def test_a_sub_that_subscribes_later_is_not_reported(context, caplog, topic):
    with closing(Source.open(zmq.SUB, context=context)) as (source,):
        source.socket.subscribe(topic)
        looks()
    assert lines(caplog) == []


@counts_topics
def test_an_xsub_that_subscribes_by_a_message_is_not_reported(context, caplog):
    with closing(
        Source.open(zmq.XSUB, context=context), Source.open(zmq.XSUB, context=context)
    ) as (source, silent):
        source.send(b"\x01weather")
        (line,) = wait_until(lambda: lines(caplog))
        assert line.startswith(repr(silent))


def test_sources_that_are_used_or_wait_for_messages_are_not_reported(context, caplog):
    pulled, push = with_a_message(context, zmq.PULL, zmq.PUSH)
    waiting = Source.open(zmq.PULL, context=context)
    served = Source.open(zmq.PULL, lambda _: None, context=context)
    publisher = Source.open(zmq.XPUB, bind="inproc://b", context=context)
    subscriber = Source.open(zmq.SUB, connect="inproc://b", subscribe="", context=context)
    with closing(pulled, push, waiting, served, publisher, subscriber):
        served.start()
        pulled.recv(timeout=5)
        push.send(b"another")
        reader = gevent.spawn(waiting.recv)
        looks()
        reader.kill()
    assert lines(caplog) == []


def test_a_source_that_is_no_longer_looked_at_costs_no_timer(context):
    with closing(Source.open(zmq.PULL, lambda _: None, context=context)) as (source,):
        source.start()
        patrol = neglect._patrols[get_hub()]
        assert source._core in patrol._sources
        wait_until(lambda: source._core not in patrol._sources)
        patrol._sources.clear()
        wait_until(lambda: patrol._timer is None)


def test_a_hub_that_does_not_run_is_in_the_repr_of_its_sources(context, monkeypatch):
    with closing(Source.open(zmq.PULL, bind="inproc://a", context=context)) as (source,):
        usual = "<Source PULL inproc://a started>"
        monkeypatch.setattr(source._core, "late", 0.5)
        wait_until(lambda: repr(source) == usual)
        get_original("time", "sleep")(1)
        assert re.fullmatch(usual[:-1] + r", and the hub has not run for [1-9] s>", repr(source))
        wait_until(lambda: repr(source) == usual)


# What a handler returns


async def coroutine(_payload):
    return b"reply"


class Callable:
    def __call__(self, _payload):
        return None

    def method(self, _payload):
        return "text"


def awaits(payload):
    return coroutine(payload)


def yields_a_text(_payload):
    yield "text"


def raises_itself(_payload):
    yield b"frame"
    raise TypeError("of its own")


REPLIES = {
    "None": (
        lambda _: None,
        r"the handler .*<lambda> has returned None: return the payload of the",
    ),
    "None of a partial": (functools.partial(print, "x"), "the handler print has returned None"),
    "None of an object": (Callable(), r"the handler Callable\.__call__ has returned None"),
    "str of a method": (Callable().method, r"Callable\.method has returned a str: .*encode it"),
    "str in a list": (lambda _: [b"a", "b"], "has returned a list: .*the str 'b': encode it"),
    "str of a generator": (
        yields_a_text,
        "the handler yields_a_text has returned a list: .*encode",
    ),
    "int": (lambda _: 5, "has returned an int: .*serialise it"),
    "dict": (lambda _: {"key": 1}, "has returned a dict: a message is a list of frames"),
    "no frame": (lambda _: [], "has returned a list: a message needs at least one frame"),
    "coroutine": (awaits, "has returned a coroutine: use a plain function, which"),
    "error of its own": (raises_itself, "^TypeError: of its own"),
}


@pytest.mark.parametrize(("handler", "pattern"), REPLIES.values(), ids=list(REPLIES))
def test_a_reply_that_cannot_be_sent_names_the_handler_the_rule_and_the_fix(
    context, handler, pattern, caplog
):
    with (
        Responder.open(handler, bind="inproc://r", context=context) as responder,
        Requester.open("inproc://r", context=context) as requester,
    ):
        responder.start()
        with pytest.raises(RemoteError, match=pattern) as raised:
            requester.request(b"x", timeout=10)
        assert raised.value.peer == "inproc://r"
        assert raised.value.text in lines(caplog)[0]
        if sys.version_info >= (3, 11):
            (note,) = raised.value.__notes__
            assert note.startswith("raised by the handler at inproc://r, in request ")


def test_a_handler_that_returns_a_coroutine_is_reported(context, caplog):
    made = []

    def handle(message):
        made.append(coroutine(message))
        return made[-1]

    source, peer = with_a_message(context, zmq.PULL, zmq.PUSH, handle)
    with closing(source, peer):
        source.start()
        (line,) = wait_until(lambda: lines(caplog))
    assert "handle has returned a coroutine, which is dropped: no loop runs it" in line
    made[0].close()


def test_nothing_warns_of_the_coroutine_that_a_responder_refuses(context):
    with (
        warnings.catch_warnings(),
        Responder.open(awaits, bind="inproc://r", context=context) as responder,
        Requester.open("inproc://r", context=context) as requester,
    ):
        warnings.simplefilter("error")
        responder.start()
        with pytest.raises(RemoteError):
            requester.request(b"x", timeout=10)


def test_a_lost_request_is_named_with_its_server_and_what_to_do(context, caplog):
    caplog.set_level(logging.ERROR)
    entered = gevent.event.Event()

    def wait(_payload):
        entered.set()
        gevent.sleep(60)
        return b""

    responder = Responder.open(wait, bind="tcp://127.0.0.1:*", context=context)
    responder.start()
    endpoint = endpoint_of(responder.source)
    with Requester.open(endpoint, context=context) as requester:
        result = requester.submit(b"x")
        assert entered.wait(5)
        late = requester.submit(b"y", timeout=0.05)
        with pytest.raises(TimeoutError, match=f"no reply within 0.05 s from {endpoint}: its han"):
            late.get()
        responder.close()
        with pytest.raises(
            ConnectionError, match=rf"request .*{endpoint} was lost.* with retries=1 it is sent"
        ):
            result.get(timeout=5)

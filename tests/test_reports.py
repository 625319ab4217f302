"""What is logged of what peers and handlers do wrong: how much, and what of it."""

import logging
import re
import tracemalloc

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from handlers import INPROC, fed
from helpers import closing, endpoint_of, python_process

from gzmqsource import Source
from gzmqsource._base.reports import (
    MAX_LINES,
    MAX_TEXT,
    Reports,
    kinds,
    peer_of,
    printable,
    text_of,
)
from gzmqsource._source import failures
from gzmqsource.testing import in_forked_child, no_leaks, wait_until
from gzmqsource.workers import Requester

START_NATIVE_THREAD = get_original("_thread", "start_new_thread")


@pytest.fixture
def report(monkeypatch, caplog):
    """A kind of its own, with an interval that is over soon; `caplog` has no others.

    What an earlier test has dropped may be collected, and logged, at any moment.
    """
    monkeypatch.setattr(Reports, "interval", 0.05)
    report = Reports("gzmqsource.test")
    gevent.get_hub()  # a thread without one leaves the rest to others
    its_own = logging.Filter("gzmqsource.test")
    caplog.handler.addFilter(its_own)
    yield report
    caplog.handler.removeFilter(its_own)
    kinds.remove(report)


@pytest.fixture
def patient(report, monkeypatch):
    """Whose interval is never over."""
    monkeypatch.setattr(Reports, "interval", 3600)
    return report


def raised(kind=ValueError, *arguments):
    try:
        raise kind(*arguments)
    except kind as error:
        return error


def counted(caplog):
    """How many events the lines stand for."""
    more = re.findall(r"and (\d+) more", caplog.text)
    return len(caplog.records) + sum(map(int, more))


def test_the_first_is_logged_at_once_and_the_others_are_counted_in_the_next(patient, caplog):
    described = []

    def event(number):
        described.append(number)
        return f"event {number}"

    for number in range(1000):
        patient(lambda number=number: event(number))
    assert caplog.messages == ["event 0"]
    patient.flush()
    assert caplog.messages == ["event 0", "event 1 (and 998 more since the last such line)"]
    assert described == [0, 1]


def test_what_is_left_out_is_logged_although_nothing_more_happens(report, caplog):
    for _ in range(10):
        report(lambda: "event")
    assert len(caplog.records) == 1
    wait_until(lambda: counted(caplog) == 10)
    assert len(caplog.records) == 2


def test_a_handler_of_the_log_that_raises_is_no_error_of_what_is_reported(patient, capsys):
    """Nor does it keep the other kinds from being logged at the end."""

    class Full(logging.Handler):
        def emit(self, record):
            raise OSError("disk full")

    logger, full = logging.getLogger("gzmqsource.test"), Full()
    logger.addHandler(full)
    try:
        for _ in range(3):
            patient(lambda: "event")
        patient.flush()
    finally:
        logger.removeHandler(full)
    assert capsys.readouterr().err.count("OSError: disk full") == 2


def test_what_is_left_out_in_a_thread_is_logged_with_the_next(patient, caplog):
    done = []

    def run():
        for _ in range(10):
            patient(lambda: "event")
        done.append(True)

    START_NATIVE_THREAD(run, ())
    wait_until(lambda: done)
    patient._quiet_until = 0.0
    patient(lambda: "last")
    assert counted(caplog) == 11


def test_a_report_in_the_hub_is_logged_by_a_greenlet(report, caplog, monkeypatch):
    logged = []
    monkeypatch.setattr(
        report._logger, "log", lambda *_: logged.append(gevent.getcurrent() is gevent.get_hub())
    )
    for _ in range(3):
        gevent.get_hub().loop.run_callback(report, lambda: "event")
    wait_until(lambda: len(logged) == 2)
    assert logged == [False, False]


@pytest.mark.parametrize("count", [1, 1000])
def test_what_is_reported_in_the_hub_is_logged_if_the_process_ends_at_once(patient, caplog, count):
    """The main greenlet goes on before any other, and at the end flushes."""

    def report_all():
        for _ in range(count):
            patient(lambda: "event")
        main.switch()

    main, hub = gevent.getcurrent(), gevent.get_hub()
    hub.loop.run_callback(report_all)
    hub.switch()
    assert caplog.messages == []
    patient.write_all()
    assert counted(caplog) == count
    gevent.sleep(0)
    assert counted(caplog) == count


def test_no_timer_outlives_what_is_left_out(report):
    with no_leaks():
        for _ in range(100):
            report(lambda: "event")
        wait_until(lambda: not report._timers)


def test_a_traceback_is_logged_once_for_each_place(report, caplog):
    for _ in range(3):
        report(lambda: "event", raised())
        report._quiet_until = 0.0
    assert [text.count("Traceback") for text in caplog.messages] == [1, 0, 0]


def test_a_flood_of_one_error_does_not_hide_another(patient, caplog):
    for _ in range(100):
        patient(lambda: "flood", raised())
    patient(lambda: "rare", raised(LookupError))
    for _ in range(100):
        patient(lambda: "flood", raised())
    patient.flush()
    assert caplog.messages[1].startswith("rare (and 199 more")
    assert "Traceback" in caplog.messages[1]


def test_places_are_remembered_up_to_a_bound(patient):
    for number in range(1000):
        try:
            exec(compile("\n" * number + "1/0", "made up", "exec"))
        except ZeroDivisionError as error:
            patient._quiet_until = 0.0
            patient(lambda: "event", error)
    assert len(patient._shown) <= patient.max_places


def test_nothing_that_a_peer_sent_is_obeyed_or_looks_like_another_line(report, caplog):
    evil = "\x1b[2J\r\nERROR gzmqsource: all is well\u202e\x00" + "x" * 10_000_000
    report(lambda: text_of(raised(ValueError, evil)), raised(ValueError, evil))
    (text,) = caplog.messages
    first, *below = text.split("\n")
    assert first.startswith(r"ValueError: \x1b[2J\r\nERROR")
    assert len(first) < 2 * MAX_TEXT
    assert all(line.startswith("    ") for line in below)
    assert all(line.isprintable() for line in (first, *below))
    assert len(text) < 4 * MAX_TEXT * 4


def test_a_long_traceback_is_shortened(report, caplog):
    def fail(depth):
        return fail(depth - 1) + 1 if depth % 2 else fall(depth - 1)

    def fall(depth):
        return fail(depth) if depth > 0 else 1 / 0

    try:
        fail(400)
    except ZeroDivisionError as error:
        report(lambda: "deep", error)
    assert len(caplog.text.splitlines()) < 2 * MAX_LINES + 5
    assert "lines left out" in caplog.text
    assert "division by zero" in caplog.text


def test_an_exception_without_a_text_has_a_name(report, caplog):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    report(lambda: text_of(raised(Mute)), raised(Mute))
    assert caplog.messages[0].startswith("Mute: <no text: RuntimeError>")
    assert text_of(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (b"worker-1", "'worker-1'"),
        (b"\0\x01\x02\x03\x04", "0x0001020304"),
        (b"\x1b[31m", "0x1b5b33316d"),
        (b"it's", '"it\'s"'),
        (b"x" * 255, "'" + "x" * 32 + "'..."),
        (zmq.Frame(b"frame"), "'frame'"),
        (b"", "''"),
    ],
)
def test_a_peer_is_named_in_short_and_printable(frame, name):
    assert peer_of(frame) == name


@pytest.mark.parametrize("text", ["plain", "caf\u00e9", "\u6f22"])
def test_a_text_without_control_characters_stays_as_it_is(text):
    assert printable(text) == text


def test_a_forked_child_does_not_log_what_its_parent_left_out(patient, caplog):
    for _ in range(10):
        patient(lambda: "event")

    def in_child():
        caplog.clear()
        patient.flush()
        assert not caplog.messages
        patient(lambda: "the child's")
        assert caplog.messages == ["the child's"]

    in_forked_child(in_child)
    patient.flush()
    assert counted(caplog) == 10


def test_a_thousand_sources_that_fail_at_once_have_one_line(context, caplog, monkeypatch):
    monkeypatch.setattr(Reports, "interval", 3600)
    sources = [Source.open(zmq.PULL, context=context) for _ in range(1000)]
    with closing(*sources):
        for source in sources:
            source.report(ValueError("bad"))
        assert len(caplog.records) == 1
        for kind in kinds:
            kind.flush()
        assert counted(caplog) == 1000
        assert all(source.stats().errors == 1 for source in sources)


def test_the_peer_of_an_error_is_named_and_the_message_is_not_logged(context, caplog):
    def fail(message):
        raise ValueError("bad")

    router = Source.open(zmq.ROUTER, fail, bind="inproc://named", context=context)
    dealer = Source.open(zmq.DEALER, context=context, routing_id=b"me\x1b")
    with closing(router, dealer):
        router.start()
        dealer.socket.connect("inproc://named")
        dealer.send(b"secret")
        wait_until(lambda: caplog.records)
    assert "ValueError: bad, peer 0x6d651b" in caplog.text
    assert "secret" not in caplog.text


def test_what_is_no_error_of_a_message_goes_to_the_hub(context, told, caplog):
    with closing(Source.open(zmq.PULL, context=context)) as (source,):
        for kind in (SystemExit, gevent.GreenletExit, SystemError):
            source.report(kind())
    assert [type(error) for _, error in told] == [SystemExit, gevent.GreenletExit, SystemError]
    assert not caplog.records


class Odd(BaseException):
    pass


@pytest.mark.parametrize("kind", [ValueError, gevent.Timeout, GeneratorExit, Odd])
def test_an_error_of_any_other_class_is_logged_at_the_bounded_rate(
    context, caplog, capsys, monkeypatch, patient, kind
):
    monkeypatch.setattr(failures, "_failed", patient)
    with closing(Source.open(zmq.PULL, context=context)) as (source,):
        for _ in range(100):
            source.report(kind())
    patient.flush()
    assert [f": {kind.__name__}" in text for text in caplog.messages] == [True, True]
    assert counted(caplog) == 100
    assert capsys.readouterr().err == ""


def test_what_the_hub_takes_for_no_error_is_not_logged(context, caplog, monkeypatch):
    class Ours(Exception):
        pass

    hub = gevent.get_hub()
    monkeypatch.setattr(hub, "NOT_ERROR", (*hub.NOT_ERROR, Ours))
    with closing(Source.open(zmq.PULL, context=context)) as (source,):
        source.report(Ours())
        assert source.stats().errors == 1
    assert not caplog.records


def test_a_hub_with_a_handler_of_its_own_gets_every_error_that_has_no_on_error(
    context, told, caplog
):
    reported: list[object] = []
    with closing(
        Source.open(zmq.PULL, context=context),
        Source.open(zmq.PULL, context=context, on_error=lambda *what: reported.append(what)),
    ) as (source, noting):
        for _ in range(5):
            for kind in ValueError, Odd:
                source.report(kind())
                noting.report(kind())
    assert len(told) == len(reported) == 10
    assert not caplog.records


def test_requesters_log_a_lost_connection_with_its_endpoint(context, caplog):
    router = Source.open(zmq.ROUTER, bind="tcp://127.0.0.1:*", context=context)
    endpoint = endpoint_of(router)
    with Requester.open(endpoint, context=context, linger=0) as requester:
        result = requester.submit(b"x")
        router.recv(timeout=10)
        router.close()
        wait_until(result.ready)
    assert (
        f"the connection to {endpoint} was lost, while 1 requests were outstanding" in caplog.text
    )


FAILING = """
import sys
import gevent, zmq
from gzmqsource import Source
context = zmq.Context()
def handle(message):
    raise ValueError(message[0].decode())
server = Source.open(zmq.PULL, handle, bind="inproc://a", context=context)
client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
server.start()
count = int(sys.argv[1])
for number in range(count):
    client.send(b"%d" % number)
with gevent.Timeout(60):
    while server.stats().errors < count:
        gevent.sleep(0.01)
server.close()
client.close()
context.term()
"""


@pytest.mark.processes
@pytest.mark.limit(90)
def test_a_program_that_configures_no_logging_sees_few_lines_that_add_up(tmp_path):
    count = 30_000
    log = tmp_path / "log"
    with log.open("w") as errors, python_process(FAILING, count, stderr=errors) as process:
        began = gevent.get_hub().loop.now()
        assert process.wait(timeout=60) == 0
        seconds = gevent.get_hub().loop.now() - began
    lines = [line for line in log.read_text().splitlines() if not line.startswith("    ")]
    assert 2 <= len(lines) <= seconds + 2
    more = re.findall(r"and (\d+) more", "\n".join(lines))
    assert len(lines) + sum(map(int, more)) == count
    assert log.read_text().count("Traceback") == 1


@pytest.mark.once
@pytest.mark.limit(60)
def test_errors_leave_nothing_in_memory(context, caplog):
    count = 20_000

    def handle(message):
        raise ValueError(bytes(message[0]))

    with fed(context, handle, INPROC) as (server, client):

        def fail():
            before = server.stats().errors
            for number in range(count):
                client.send(b"%20d" % number)
            wait_until(lambda: server.stats().errors == before + count, timeout=30)
            caplog.clear()

        tracemalloc.start()
        try:
            fail()
            before = tracemalloc.get_traced_memory()[0]
            fail()
            # One text of each would be a megabyte.
            assert tracemalloc.get_traced_memory()[0] - before < 300_000
        finally:
            tracemalloc.stop()

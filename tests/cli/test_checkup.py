"""`doctor` with a running server."""

from collections.abc import Mapping

import gevent
import pytest
import zmq
from command_under_test import run
from helpers import closing, free_ports
from prometheus_client import CollectorRegistry, Gauge, start_http_server
from texts import BAD, is_harmless

from gzmqsource import Source, __version__
from gzmqsource.cli._checkup import _time, _wrong_with
from gzmqsource.cli._exposition import Exposition
from gzmqsource.cli._http import Pages, PageServer
from gzmqsource.cli._reading import Process, address_of
from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


def report_on(url):
    """Return the exit status, the facts, and the warnings."""
    finished = run("doctor", url)
    lines = [line.strip() for line in finished.stdout.decode().splitlines()]
    warnings = [line.removeprefix("! ") for line in lines if line.startswith("!")]
    pairs = [line.split("  ", 1) for line in lines if "  " in line and not line.startswith("!")]
    facts = {name: value.strip() for name, value in pairs}
    return finished.returncode, facts, warnings, finished.stderr.decode()


def test_a_server_that_is_well_says_what_it_is(serving, address):
    port = free_ports(1)[0]
    process = serving("--metrics", port)
    assert run("request", "--connect", address, "x").returncode == 0
    for url in port, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/metrics":
        status, facts, warnings, _ = report_on(url)
        assert (status, warnings) == (0, [])
        assert facts["server"] == f"http://127.0.0.1:{port}/metrics"
        assert (facts["gzmqsource"], facts["pid"]) == (__version__, str(process.pid))
        assert facts["up for"].endswith(" s")
        assert facts["transfer"] in ("native", "pure")
        assert "late" in facts["hub"]
        assert facts["libzmq"] == zmq.zmq_version()


def test_a_server_that_has_dropped_a_message_is_not_well(serving, address, context):
    port = free_ports(1)[0]
    serving("--metrics", port, "--max-frames", 3)
    with closing(Source.open(zmq.DEALER, connect=address, context=context, linger=0)) as (client,):
        client.send([b"", *[b"x"] * 9])
        client.send([b"", b"x"])
        assert client.recv()[-1] == b"x"
    status, _, warnings, _ = report_on(port)
    assert status == 1
    assert warnings == [f"ROUTER {address} has dropped messages: 1 oversized"]


SLOW = """
import gevent
def slow(x):
    open("begun", "w").close()
    gevent.sleep(60)
"""


def test_a_server_that_stops_is_not_well(serving, address, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    port = free_ports(1)[0]
    process = serving("--metrics", port, target="slow:slow")
    asking = gevent.spawn(run, "request", "--connect", address, "x")
    wait_until((tmp_path / "begun").exists)
    process.terminate()
    wait_until(lambda: report_on(port)[2])
    status, _, warnings, _ = report_on(port)
    assert (status, warnings) == (1, ["/readyz answers 503: it stops"])
    process.kill()
    asking.join()


def test_no_server_is_an_error_of_one_line():
    port = free_ports(1)[0]
    status, _, _, error = report_on(port)
    assert status == 1
    assert error == f"Error: http://127.0.0.1:{port}/healthz: Connection refused\n"
    assert "a URL" in run("doctor", port, "--pid", 1).stderr.decode()


def ready(value):
    return f"# TYPE gzmqsource_ready gauge\ngzmqsource_ready {value}\n"


@pytest.fixture
def workers():
    """A server with workers, of which the test says what they answer; gives that, and the port."""

    class State:
        answers: Mapping[str, str | None]
        port: int | None

    exposition = Exposition(workers=lambda _: State.answers)
    server = PageServer(("127.0.0.1", 0), Pages(lambda: None, exposition))
    server.start()
    State.port = server.server_port
    yield State
    server.stop()
    exposition.close()


def test_a_worker_that_is_not_ready_or_silent_is_named(workers):
    workers.answers = {"1": ready(1), "2": ready(1)}
    status, facts, warnings, _ = report_on(workers.port)
    assert (status, warnings, facts["workers"]) == (0, [], "2, 2 of them ready")
    workers.answers = {"1": ready(1), "2": ready(0), "3": None}
    status, facts, warnings, _ = report_on(workers.port)
    assert (status, facts["workers"]) == (1, "3, 1 of them ready")
    assert warnings == [
        "worker 2: it is not ready",
        "worker 3: its numbers came too late, or not at all, 1 times",
    ]


def test_what_a_server_says_reaches_no_terminal_as_it_is(workers):
    drops = "gzmqsource_dropped_messages_total"
    escaped = BAD.replace("\n", "\\n")
    labels = f'source="x",type="{escaped}",endpoint="{escaped}",reason="{escaped}"'
    workers.answers = {BAD: f"# TYPE {drops} counter\n{drops}{{{labels}}} 1\n"}
    finished = run("doctor", workers.port)
    assert finished.returncode == 1
    text = finished.stdout.decode()
    assert "has dropped messages" in text
    assert is_harmless(text, but="\n")
    assert "\n2026-01-01" not in text


def test_another_program_with_metrics_has_no_other_pages():
    registry = CollectorRegistry()
    Gauge("gzmqsource_ready", "As of a server.", registry=registry).set(1)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    status, facts, warnings, _ = report_on(server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()
    assert (status, warnings) == (0, [])
    assert facts["gzmqsource"] == "of an unknown version"


def test_a_hub_that_is_late_is_warned_of_once_it_has_run_for_a_while():
    late = Process(lateness={0.1: 980.0, 0.5: 1000.0, float("inf"): 1000.0})
    (warning,) = _wrong_with("", late)
    assert warning.text == "the hub is late: at most 500 ms, for 1 % of its ticks"
    in_time, young = {0.1: 990.0, float("inf"): 1000.0}, {0.1: 900.0, 0.5: 999.0}
    assert not [*_wrong_with("", Process(lateness=in_time))]
    assert not [*_wrong_with("", Process(lateness=young))]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.6, "1 min"),
        (3661, "1 h 1 min"),
        (90_061, "1 d 1 h"),
        (-5, "an unknown time"),
        (float("nan"), "an unknown time"),
    ],
)
def test_a_time_is_in_its_two_largest_units(seconds, text):
    assert _time(seconds) == text


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("9100", "http://127.0.0.1:9100/metrics"),
        ("http://x:1", "http://x:1/metrics"),
        ("http://x:1/", "http://x:1/metrics"),
        ("https://x/a/metrics", "https://x/a/metrics"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_port_or_a_host_is_enough_of_an_url(url, address):
    assert address_of(url, "/metrics") == address

"""`top` and `doctor` with a port that has pages, but not those of gzmqsource."""

import contextlib
import json
import os
import socketserver

import click
import pytest
from command_under_test import run
from gevent.monkey import get_original
from gevent.pywsgi import WSGIServer
from helpers import closing
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from gzmqsource._base.threads import start_thread
from gzmqsource.cli import _reading
from gzmqsource.metrics import SourceCollector

sleep = get_original("time", "sleep")

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]


def metrics_of(*made):
    """Return a page with the metrics that some functions register."""
    registry = CollectorRegistry()
    for each in made:
        each(registry)
    return generate_latest(registry)


def gauge(registry):
    Gauge("temperature", "Of another program.", registry=registry).set(20)


PAGES = {
    "no content": b"",
    "an assignment": b"a = page\n",
    "text": b"It works!\n",
    "a document": b"<!DOCTYPE html>\n<html><body><h1>It works!</h1></body></html>\n",
    "other metrics": metrics_of(gauge),
    "metrics with this name in a label": b'x{by="gzmqsource_ready"} 1\n',
}


class Dripping(socketserver.BaseRequestHandler):
    """Answers without an end, a byte at a time."""

    head = b"HTTP/1.0 200 OK\r\n\r\n"

    def handle(self):
        self.request.recv(1 << 16)
        with contextlib.suppress(OSError):
            self.request.sendall(self.head)
            while True:
                self.request.sendall(b"#")
                sleep(0.01)


class DrippingHead(Dripping):
    """Does so in its head."""

    head = b"HTTP/1.0 200 OK\r\nX: "


def test_a_page_whose_head_does_not_end_is_given_up():
    with socketserver.TCPServer(("127.0.0.1", 0), DrippingHead) as server:
        start_thread(server.handle_request, ())
        finished = run("doctor", server.server_address[1])
    assert finished.returncode == 1
    assert b"/healthz: its answer takes longer than 5 s" in finished.stderr


def test_a_page_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(_reading, "_PATIENCE", 0.2)
    with socketserver.TCPServer(("127.0.0.1", 0), Dripping) as server:
        start_thread(server.handle_request, ())
        with pytest.raises(click.ClickException, match=r"its answer takes longer than 0.2 s"):
            _reading.get("http://{}:{}/".format(*server.server_address))


@pytest.fixture
def serving_page():
    """Serve one page at every path; gives the port."""
    servers = []

    def serve(page):
        def application(_environ, start_response):
            start_response("200 OK", [])
            return [page]

        servers.append(WSGIServer(("127.0.0.1", 0), application, log=None))
        servers[-1].start()
        return servers[-1].server_port

    yield serve
    for each in servers:
        each.stop()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_of_another_program_has_no_table_and_is_a_problem(serving_page, page):
    port = serving_page(page)
    finished = run("top", port, "--count", 1, "--interval", 0.05)
    said = f"http://127.0.0.1:{port}/metrics does not answer with gzmqsource's metrics"
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert said in " ".join(finished.stderr.decode().split())
    finished = run("doctor", port, "--json")
    assert finished.returncode == 1
    report = json.loads(finished.stdout)
    assert not report["ok"]
    (problem,) = report["problems"]
    assert problem["kind"] == "not-gzmqsource"
    assert problem["text"].startswith(said)
    assert "--metrics" in problem["fix"]


@pytest.mark.parametrize("host", ["", "http://127.0.0.1:", "http://localhost:"])
def test_no_proxy_is_asked_for_a_page_of_this_machine(serving_page, host):
    port = serving_page(b"gzmqsource_ready 1\n")
    environment = os.environ | {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    finished = run("doctor", f"{host}{port}", env=environment)
    assert (finished.returncode, finished.stderr) == (0, b"")


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-1", "1e308"])
def test_a_process_number_that_none_has_is_left_out(serving_page, number):
    port = serving_page(f"gzmqsource_ready 1\ngzmqsource_pid {number}\n".encode())
    finished = run("doctor", port, "--json")
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert "pid" not in json.loads(finished.stdout)


def test_a_collector_without_a_source_is_one_of_gzmqsource(serving_page):
    made = []

    def collector(registry):
        made.append(SourceCollector())
        registry.register(made[0])

    page = metrics_of(gauge, collector)
    with closing(*made):
        port = serving_page(page)
        assert run("top", port, "--count", 1, "--interval", 0.05).returncode == 0
        assert run("doctor", port).returncode == 0

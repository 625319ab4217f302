"""Requests that are no HTTP, or end in the middle, at the pages of a server."""

import contextlib
import logging
import os
import struct

import pytest
from gevent import socket
from gevent.event import Event
from gevent.monkey import get_original
from gevent.socket import SHUT_WR, SO_LINGER, SOL_SOCKET
from helpers import free_ports
from http_pages import ask

from gzmqsource.cli._http import Pages, PageServer, _Exchange
from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]

START = b"GET /metrics HTTP/1.1\r\n"

REFUSED = {
    "no request": b"\x1b[31m nonsense\r\n\r\n",
    "a version that does not exist": b"GET / HTTP/9.9\r\n\r\n",
    "too many headers": START + b"X: y\r\n" * 101 + b"\r\n",
    "a header that is too long": START + b"X: " + b"x" * 70000 + b"\r\n\r\n",
    "a length that is no number": START + b"Content-Length: abc\r\n\r\n",
    "a length below zero": START + b"Content-Length: -1\r\n\r\n",
    "a chunk that is none": START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}

#: Those that are answered like any other, or not at all.
HARMLESS = {
    "bytes that are no UTF-8": b"GET /%ff%fe HTTP/1.1\r\nHost: \xff\r\nX-\xff: 1\r\n\r\n",
    "a path that is too long": b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n",
    "an end in the request": b"GET /me",
    "an end in the headers": START + b"Host: x",
    "an end in the body": START + b"Content-Length: 100\r\n\r\nx",
}


@pytest.fixture
def served(serving):
    """A server with pages; gives its process and the port."""
    port = free_ports(1)[0]
    return serving("--metrics", port), int(port)


def send(port, data, resets=False):
    """Send data to the pages, and wait for the end of the connection."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(data)
        if resets:
            client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            return
        try:
            client.shutdown(SHUT_WR)
            while client.recv(1000):
                pass
        except OSError:
            pass  # it has not read all, or has already ended the connection


def test_what_is_wrong_with_a_request_is_one_record_in_a_second_and_has_no_traceback(served):
    process, port = served
    for data in REFUSED.values():
        for resets in False, True:
            send(port, data, resets)
    assert ask(port, "/healthz")[0] == 200
    process.terminate()
    _, told = process.communicate(timeout=20)
    lines = told.splitlines()
    assert all(" gzmqsource." in line for line in lines), told
    warnings = [line for line in lines if "--metrics: a request is refused: " in line]
    assert "\\x1b[31m nonsense" in warnings[0]
    assert "more since the last such line" in warnings[-1]
    assert len(warnings) < len(REFUSED)


@pytest.mark.parametrize("resets", [False, True], ids=["ends", "resets"])
def test_a_client_that_goes_in_the_middle_costs_no_traceback(served, resets):
    process, port = served
    for data in HARMLESS.values():
        for _ in range(5):
            send(port, data, resets)
    assert ask(port, "/healthz")[0] == 200
    process.terminate()
    _, told = process.communicate(timeout=20)
    assert all(" gzmqsource." in line for line in told.splitlines()), told
    assert "ERROR" not in told


@pytest.fixture
def pages():
    """Serve the metrics that a function returns; gives a list for it, and the server."""
    made: list = []
    server = PageServer(("127.0.0.1", 0), Pages(lambda: None, lambda: made[0]()))
    server.start()
    yield made, server
    server.stop()


def test_a_page_that_fails_is_one_record_in_an_interval(pages, caplog, monkeypatch):
    monkeypatch.setattr(_Exchange._report, "interval", 3600.0)
    made, server = pages
    made.append(lambda: os.environ["NO_SUCH_THING"])
    for _ in range(5):
        assert ask(server.server_port, "/metrics")[0] == 500
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "/metrics failed: KeyError('NO_SUCH_THING')" in record.getMessage()
    assert "Traceback" in record.getMessage()


@pytest.mark.parametrize("rest", [b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n"])
def test_a_client_that_does_not_read_is_disconnected_without_a_record(
    pages, caplog, monkeypatch, rest
):
    made, server = pages
    monkeypatch.setattr(PageServer, "patience", 0.2)
    began = Event()

    def large():
        began.set()
        return bytes(100_000_000)

    made.append(large)
    with get_original("socket", "socket")() as client:
        # Without the hub: all is there when the server begins to wait for it.
        client.connect(("127.0.0.1", server.server_port))
        client.sendall(START + rest)
        assert began.wait(timeout=10)
        wait_until(lambda: not len(server.pool))
    assert not caplog.records


def test_clients_that_do_not_read_keep_no_probe_out(pages, caplog, monkeypatch):
    made, server = pages
    monkeypatch.setattr(PageServer, "max_connections", 5)
    monkeypatch.setattr(PageServer, "patience", 1000)
    made.append(lambda: bytes(20_000_000))
    with contextlib.ExitStack() as ends:
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", server.server_port))
            ends.enter_context(client)
            client.sendall(START + b"\r\n")
        assert ask(server.server_port, "/healthz")[0] == 200
        wait_until(lambda: len(server.pool) < 5)
    text = "--metrics: a connection that is not read is closed: 5 are open"
    assert {each.getMessage().partition(" (and")[0] for each in caplog.records} == {text}

"""`request`: several requests, of which some fail, and interrupts."""

import json
import os
import signal

import pytest
from command_under_test import run, running, until_told
from gevent import subprocess
from helpers import bytes_in

from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]


@pytest.fixture
def server(context, address):
    """A server that fails, is slow, or replies; gives the payloads that it has seen."""
    seen = []

    def answer(payload):
        seen.append(payload)
        if payload == [b"fail"]:
            raise KeyError("no such thing")
        if payload == [b"slow"]:
            wait_until(lambda: False, timeout=30)
        return [b"re", *payload]

    with Responder.open(answer, bind=address, context=context, on_error=lambda *_: None) as server:
        server.start()
        yield seen
        server.close()


def test_it_goes_on_after_errors_says_which_and_why_and_counts_them(server, address):
    lines = b"one\nfail\ntwo\nslow\nthree\n"
    finished = run("request", "--connect", address, "--timeout", 0.5, input=lines)
    assert finished.stdout == b"re\tone\nre\ttwo\nre\tthree\n"
    assert finished.stderr.decode().splitlines() == [
        "message 2: KeyError: 'no such thing'",
        "message 4: no reply within 0.5 s",
        "Error: 2 of 5 requests had no reply",
    ]
    assert finished.returncode == 1


@pytest.mark.parametrize("log", ["a full disk", "a pipe without a reader"])
def test_it_goes_on_after_errors_that_cannot_be_written(server, address, log):
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as full, open(writing, "wb") as unread:
        stderr = full if log == "a full disk" else unread
        finished = run("request", "--connect", address, input=b"fail\none\n", stderr=stderr)
    assert (finished.returncode, finished.stdout) == (1, b"re\tone\n")


def test_a_line_that_is_no_message_is_an_error_of_that_line(server, address):
    lines = b'["one"]\n{}\n"two"\n'
    finished = run("request", "--connect", address, "--json", input=lines)
    assert finished.stdout == b"re\tone\nre\ttwo\n"
    first, last = finished.stderr.decode().splitlines()
    assert first.startswith("message 2: a frame is a string or")
    assert last == "Error: 1 of 3 requests had no reply"
    assert finished.returncode == 1


def test_arguments_and_files_go_on_too(server, address, tmp_path):
    finished = run("request", "--connect", address, "fail", "one")
    assert finished.stdout == b"re\tone\n"
    assert finished.returncode == 1
    (tmp_path / "file").write_bytes(b"fail")
    files = ("--file", tmp_path / "file", "--file", tmp_path / "file")
    finished = run("request", "--connect", address, *files)
    assert finished.stderr.decode().splitlines()[-1] == "Error: 2 of 2 requests had no reply"


def test_a_lone_request_has_its_own_error_alone(server, address):
    finished = run("request", "--connect", address, "fail")
    assert finished.stderr.decode() == "Error: KeyError: 'no such thing'\n"
    assert finished.returncode == 1


def test_errors_are_records_of_json_for_programs(server, address):
    finished = run("--log-format", "json", "request", "--connect", address, input=b"fail\nx\n")
    messages = [json.loads(line)["message"] for line in finished.stderr.splitlines()]
    assert messages == ["message 1: KeyError: 'no such thing'", "1 of 2 requests had no reply"]


def test_replies_to_all_are_success(server, address):
    finished = run("request", "--connect", address, input=b"one\ntwo\n")
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_a_server_that_is_not_there_is_named(address):
    finished = run("request", "--connect", address, "--timeout", 0.1, input=b"one\ntwo\n")
    assert finished.stderr.decode().splitlines() == [
        f"message 1: no reply within 0.1 s: no server at {address}",
        f"message 2: no reply within 0.1 s: no server at {address}",
        "Error: 2 of 2 requests had no reply",
    ]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_an_interrupt_before_the_reply_is_no_success(server, address, number, status):
    command = ("request", "--connect", address, "--timeout", 60, "one", "slow", "two")
    with running(*command, stderr=subprocess.PIPE) as process:
        wait_until(lambda: [b"slow"] in server)
        process.send_signal(number)
        assert process.wait(timeout=5) == status
        assert process.stdout.read() == "re\tone\n"
        assert process.stderr.read() == "Error: interrupted: 1 of 2 requests had no reply\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_an_interrupt_before_there_is_a_server_is_no_success(address, number, status):
    command = ("request", "--connect", address, "--timeout", 60)
    with running(*command, stderr=subprocess.PIPE) as process:
        process.stdin.write("x\n")
        process.stdin.flush()
        wait_until(lambda: bytes_in(process.stdin) == 0)
        process.send_signal(number)
        assert "interrupted: 1 of 1 request had no reply" in until_told(process, "interrupted")
        assert process.wait(timeout=5) == status


def test_an_interrupt_after_all_replies_is_success(server, address):
    command = ("request", "--connect", address)
    with running(*command, stderr=subprocess.PIPE) as process:
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "re\tone\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 0
        assert process.stderr.read() == ""


def test_an_interrupt_after_an_error_keeps_its_status(server, address):
    command = ("request", "--connect", address)
    with running(*command, stderr=subprocess.PIPE) as process:
        process.stdin.write("fail\n")
        process.stdin.flush()
        until_told(process, "message 1")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 1
        assert process.stderr.read() == "Error: 1 of 1 request had no reply\n"


def test_of_servers_without_a_reply_those_whose_names_are_not_found_are_named_too(address):
    missing = "tcp://nohost.invalid:1"
    words = ("--connect", missing, "--connect", address, "--timeout", 0.5, "x")
    finished = run("--log-level", "error", "request", *words, text=True)
    expected = f"Error: no reply within 0.5 s: no server at {missing}, {address}\n"
    assert (finished.returncode, finished.stderr) == (1, expected)

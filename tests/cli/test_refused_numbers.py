"""Ports, URLs and counts that are none: each is refused at once, with the rule."""

import pytest
from command_under_test import run

pytestmark = pytest.mark.once

#: What no verb takes for a port.
PORTS = ["65536", "80000", "99999999", "9" * 5000, "-1", "http", "5x", "", " 5", "\u0663", "\u00b2"]

#: Where the verbs take endpoints.
ENDPOINTS = {
    "recv --bind": ("recv", "--bind", "{}"),
    "recv --connect": ("recv", "--connect", "{}"),
    "send --bind": ("send", "x", "--bind", "{}"),
    "send --connect": ("send", "x", "--connect", "{}"),
    "request --connect": ("request", "x", "--connect", "{}"),
    "monitor --connect": ("monitor", "--connect", "{}"),
    "serve --bind": ("serve", "builtins:print", "--bind", "{}"),
    "serve --connect": ("serve", "builtins:print", "--type", "pull", "--connect", "{}"),
    "serve --join": ("serve", "builtins:print", "--join", "{}"),
    "broker FRONT": ("broker", "{}", "tcp://127.0.0.1:*"),
    "broker BACK": ("broker", "tcp://127.0.0.1:*", "{}"),
    "proxy FRONT": ("proxy", "{}", "tcp://127.0.0.1:*"),
    "proxy BACK": ("proxy", "tcp://127.0.0.1:*", "{}"),
}


def refused(*words):
    """Return what is said of a command line that is wrong."""
    finished = run(*words, input=b"")
    assert finished.returncode == 2, finished.stderr
    return finished.stderr.decode()


@pytest.mark.parametrize("words", ENDPOINTS.values(), ids=ENDPOINTS)
def test_a_port_that_no_socket_has_is_refused_wherever_an_endpoint_is_taken(words):
    error = refused(*(word.format("tcp://127.0.0.1:65536") for word in words))
    assert "'tcp://127.0.0.1:65536': a port is a number from 1 to 65535" in error


@pytest.mark.parametrize("port", PORTS, ids=[repr(port)[:12] for port in PORTS])
def test_what_is_no_port_is_refused_in_an_endpoint_and_alone(port):
    assert "a port is a number from 1 to 65535" in refused("recv", "--bind", f"tcp://*:{port}")
    serve = ("serve", "builtins:print", "--bind", "tcp://127.0.0.1:*")
    assert "a port is a number from 1 to 65535" in refused(*serve, "--metrics", port)
    for verb in "top", "doctor":
        words = (verb, "--", port)
        assert "a port, which is a number from 1 to 65535" in refused(*words)


@pytest.mark.parametrize("port", ["0", "*"])
def test_a_port_that_libzmq_chooses_is_for_a_bind(port):
    finished = run("recv", "--bind", f"tcp://127.0.0.1:{port}", "--count", 1, "--timeout", 0)
    assert finished.returncode == 1
    assert finished.stderr == b"Error: 0 of 1 message came: none for 0 s\n"
    refused("recv", "--connect", f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("verb", ["top", "doctor"])
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:70000", "http://127.0.0.1:x/", "ftp://127.0.0.1:9100", "http://", "x"]
)
def test_what_is_no_address_of_a_server_is_refused(verb, url):
    assert "nor a URL" in refused(verb, url)


@pytest.mark.parametrize("option", ["--count", "--runs"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "nan", "9999999999999"])
def test_a_benchmark_of_a_number_that_says_nothing_is_refused(option, value):
    error = refused("bench", option, value)
    assert f"Invalid value for '{option}': " in error
    assert "is not in the range" in error or "is not a valid integer range" in error


@pytest.mark.parametrize(
    "words",
    [
        ("send", "x", "--connect", "tcp://127.0.0.1:5", "--count", "0"),
        ("send", "x", "--connect", "tcp://127.0.0.1:5", "--rate", "0"),
        ("send", "x", "--connect", "tcp://127.0.0.1:5", "--timeout", "-1"),
        ("send", "x", "--connect", "tcp://127.0.0.1:5", "--hwm", "-1"),
        ("recv", "--connect", "tcp://127.0.0.1:5", "--count", "-1"),
        ("request", "x", "--connect", "tcp://127.0.0.1:5", "--timeout", "0"),
        ("request", "x", "--connect", "tcp://127.0.0.1:5", "--retries", "-1"),
        ("monitor", "--connect", "tcp://127.0.0.1:5", "--count", "0"),
        ("top", "9100", "--interval", "0"),
    ],
    ids=" ".join,
)
def test_a_number_that_makes_no_sense_is_refused_by_the_name_of_its_option(words):
    option = next(word for word in reversed(words) if word.startswith("--"))
    assert f"Invalid value for '{option}'" in refused(*words)

"""Ports, URLs and counts that are none: each is refused at once, with the rule."""

import click
import pytest
from command_under_test import run

from gzmqsource._base.deadline import LONGEST
from gzmqsource.cli._command import gzmqsource as command
from gzmqsource.cli._numbers import Number, Seconds

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
    "url",
    [
        "http://127.0.0.1:70000",
        "http://127.0.0.1:x/",
        "ftp://127.0.0.1:9100",
        "http://",
        "x",
        "http://a b/",
        "http://127.0.0.1:9100/a b",
        "http://127.0.0.1\n:9100",
    ],
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


#: What each verb with numbers needs beside them.
NEEDED = {
    "serve": ("builtins:print", "--bind", "tcp://127.0.0.1:*"),
    "broker": ("tcp://127.0.0.1:*", "tcp://127.0.0.1:0"),
    "send": ("x", "--connect", "tcp://127.0.0.1:5"),
    "recv": ("--connect", "tcp://127.0.0.1:5"),
    "request": ("x", "--connect", "tcp://127.0.0.1:5"),
    "monitor": ("--connect", "tcp://127.0.0.1:5"),
    "top": ("9100",),
    "doctor": (),
    "bench": (),
}


def numbers():
    """Return each option of a verb that takes a number, with its verb."""
    context = click.Context(command)
    verbs = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {
        f"{name} {option.opts[0]}": (name, option)
        for name, verb in verbs.items()
        if verb is not None
        for option in verb.params
        if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))
        or option.name == "workers"
    }


NUMBERS = numbers()


@pytest.mark.parametrize(("verb", "option"), NUMBERS.values(), ids=NUMBERS)
def test_a_number_that_is_too_large_is_refused_or_as_good_as_endless(verb, option):
    if isinstance(option.type, Seconds):
        assert option.type.convert("1e300", option, None) == LONGEST
    elif isinstance(option.type, Number):
        words = (verb, *NEEDED[verb], option.opts[0], "1e300", "--timeout", 0)
        assert b"not delivered" in run(*words).stderr
    else:
        error = refused(verb, *NEEDED[verb], option.opts[0], 10**20)
        assert f"Invalid value for '{option.opts[0]}'" in " ".join(error.split())


def test_the_largest_numbers_are_taken(address, tmp_path, starting):
    left_out = ("--tether", "--workers", "--max-requests", "--max-requests-jitter")
    words = [
        word
        for verb, option in NUMBERS.values()
        if verb == "serve" and option.opts[0] not in left_out and not option.hidden
        for word in (option.opts[0], str(getattr(option.type, "max", None) or 1e300))
        if option.opts[0] != "--stuck-after"
    ]
    (tmp_path / "echo.py").write_text("def answer(request):\n    return request\n")
    starting("serve", "echo:answer", "--bind", address, *words)
    asked = run("request", "x", "--connect", address, "--hwm", 2**31 - 1)
    assert (asked.returncode, asked.stdout) == (0, b"x\n")
